"""What the stage preprocess left: the images of both classes, and whose each of them is."""

import hashlib
import json
import sys

import numpy as np
from numpy.typing import NDArray

from ..common.files import sha256_of_array
from ..common.outputs import read_array, unusable_file_error
from ..common.paths import array_path, table_path
from .classes import CLASSES
from .tables import read_rows


def train_split(label: str) -> tuple[NDArray[np.uint8], list[str]]:
    """The train images of a class, and the patient of each."""
    images, named = _split(label, "train")
    return images, [name for name, _ in named]


def train_splits() -> tuple[
    tuple[NDArray[np.uint8], NDArray[np.uint8]], tuple[list[str], list[str]]
]:
    """The train images of both classes, and the patients of each."""
    (first, whose), (second, others) = (train_split(label) for label in CLASSES)
    return (first, second), (whose, others)


def test_split(label: str) -> tuple[NDArray[np.uint8], list[str]]:
    """The test images of a class that tell of other patients, and whose they are.

    Images of patients who have train images of the class as well are left out, and those whose
    files are among the train images under another name.
    """
    images, test = _split(label, "test")
    _, train = _split(label, "train")
    known, seen = {name for name, _ in train}, {checksum for _, checksum in train}
    rows, names = [], []
    for row, (name, checksum) in enumerate(test):
        if name not in known and checksum not in seen:
            rows.append(row)
            names.append(name)
    return (images if len(rows) == len(images) else images[rows]), names  # no copy for nothing


def _split(label: str, split: str) -> tuple[NDArray[np.uint8], list[tuple[str, str]]]:
    """The prepared images of a class and split; patient and checksum of each."""
    images, table = read_array(array_path(label, split)), table_path()
    wanted = (label.lower(), split)
    named = []
    try:
        for row in read_rows(table):
            if (row["label"].lower(), row["split"]) == wanted:
                named.append((sys.intern(row["patient"]), row["sha256"]))
        if len(named) != len(images):
            raise ValueError(f"it has {len(named)} rows of {len(images)} images in {split}/{label}")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:  # half a row
        raise unusable_file_error(table, error) from error
    return images, named


def train_checksum() -> str:
    """What names the train images of both classes and whose they are."""
    images, patients = train_splits()
    named = [patients, [sha256_of_array(part) for part in images]]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()
