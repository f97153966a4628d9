"""What the stage preprocess left: the images of both classes, and whose each of them is."""

import hashlib
import json
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from src.data.classes import CLASSES
from src.data.tables import rows_of
from src.files import sha256_of_array
from src.workspace import array_path, read_array, table_path, unusable


def patients_of(label: str, split: str) -> list[str]:
    """The patient of each prepared image of a class and split, in their order."""
    return [name for name, _ in _named(label, split)]


def _named(label: str, split: str) -> Iterator[tuple[str, str]]:
    """Patient and checksum of each prepared image of a class and split, in their order."""
    table = table_path()
    wanted = (label.lower(), split)
    try:
        for row in rows_of(table):
            if (row["label"].lower(), row["split"]) == wanted:
                yield sys.intern(row["patient"]), row["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise unusable(table, error) from error


def test_split(label: str) -> tuple[NDArray[np.uint8], list[str]]:
    """The test images of a class that tell of other patients, and whose they are.

    Images of patients who have train images of the class as well are left out, and those whose
    files are among the train images under another name.
    """
    images = read_array(array_path(label, "test"))
    known, seen = set(), set()
    for name, checksum in _named(label, "train"):
        known.add(name)
        seen.add(checksum)
    rows, names = [], []
    for row, (name, checksum) in enumerate(_named(label, "test")):
        if name not in known and checksum not in seen:
            rows.append(row)
            names.append(name)
    return (images if len(rows) == len(images) else images[rows]), names  # no copy for nothing


def train_split() -> tuple[
    tuple[NDArray[np.uint8], NDArray[np.uint8]], tuple[list[str], list[str]]
]:
    """The train images of both classes, and the patient of each."""
    first, second = CLASSES
    images = read_array(array_path(first, "train")), read_array(array_path(second, "train"))
    return images, (patients_of(first, "train"), patients_of(second, "train"))


def train_checksum() -> str:
    """What names the train images of both classes and whose they are."""
    images, patients = train_split()
    named = [patients, [sha256_of_array(part) for part in images]]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()
