"""The two classes and two splits, and the folders that hold them."""

CLASSES = ("NORMAL", "PNEUMONIA")
SPLITS = ("train", "test")
