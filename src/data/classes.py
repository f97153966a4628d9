"""Names of the two classes and the two splits, which are also names of folders."""

CLASSES = ("NORMAL", "PNEUMONIA")
SPLITS = ("train", "test")
