"""What the stage preprocess left: the images of both classes, and whose each of them is."""

import hashlib
import json
import sys

import numpy as np
from numpy.typing import NDArray

from src.data.classes import CLASSES
from src.data.tables import rows_of
from src.files import sha256_of_array
from src.workspace import array_path, read_array, table_path, unusable


def patients_of(label: str, split: str) -> list[str]:
    """The patient of each prepared image of a class and split, in their order."""
    return _column("patient", label, split)


def _column(column: str, label: str, split: str) -> list[str]:
    table = table_path()
    wanted = (label.lower(), split)
    try:
        return [
            sys.intern(row[column])
            for row in rows_of(table)
            if (row["label"].lower(), row["split"]) == wanted
        ]
    except (OSError, ValueError, KeyError) as error:
        raise unusable(table, error) from error


def test_split(label: str) -> tuple[NDArray[np.uint8], list[str]]:
    """The test images of a class that tell of other patients, and whose they are.

    Images of patients who have train images of the class as well are left out, and those whose
    files are among the train images under another name.
    """
    images = read_array(array_path(label, "test"))
    names = patients_of(label, "test")
    known = set(patients_of(label, "train"))
    seen = set(_column("sha256", label, "train"))
    checksums = _column("sha256", label, "test")
    apart = [
        row
        for row, (name, checksum) in enumerate(zip(names, checksums, strict=True))
        if name not in known and checksum not in seen
    ]
    if len(apart) == len(images):
        return images, names  # without a copy
    return images[apart], [names[row] for row in apart]


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
