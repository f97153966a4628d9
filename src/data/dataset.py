"""Sets of images with classes and patients, and those that the stage preprocess prepared."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UserError
from ..common.files import sha256_of_array
from ..common.outputs import read_array, unusable_file_error
from ..common.paths import array_path, table_path
from ..config.settings import Settings
from .classes import CLASSES, SPLITS
from .patients import Indices, Patients, check_test_sizes
from .tables import read_rows

Row = tuple[str, str]  # patient and SHA-256 of an image's file


@dataclass(frozen=True)
class ImageSet:
    """Images with their classes and patients."""

    images: NDArray[np.uint8]  # (n, size, size); may be a memory map
    is_pneumonia: NDArray[np.bool_]  # (n,)
    patients: Patients  # of each image; none has images of two classes

    @classmethod
    def of_class(cls, images: NDArray[np.uint8], label: str, patients: Patients) -> ImageSet:
        """Make a set of images of one class, by its name in ``CLASSES``."""
        return cls(images, np.full(len(images), label == "PNEUMONIA"), patients)

    @classmethod
    def joined(cls, sets: Sequence[ImageSet]) -> ImageSet:
        """Join sets that have no patient in common."""
        ids: list[Indices] = []
        for part in sets:
            ids.append(part.patients.ids + (ids[-1].max() + 1 if ids else 0))
        return cls(
            np.concatenate([part.images for part in sets]),
            np.concatenate([part.is_pneumonia for part in sets]),
            Patients(np.concatenate(ids)),
        )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Indices) -> ImageSet:
        """Return the images at ``indices``, copied."""
        return ImageSet(
            self.images[indices], self.is_pneumonia[indices], self.patients.take(indices)
        )

    def class_indices(self, label: str) -> Indices:
        """Return the indices of the images of a class."""
        return np.flatnonzero(self.is_pneumonia == (label == "PNEUMONIA"))


def train_sets() -> dict[str, ImageSet]:
    """Return the prepared train images of each class, as memory maps.

    Raises:
        UserError: if an array or the table is missing, damaged, or does not fit the other.
    """
    return {label: _image_set(label, "train", _rows(label, "train")) for label in CLASSES}


def test_sets() -> dict[str, ImageSet]:
    """Return the prepared test images of each class that show other patients than train images.

    Images of patients who have train images as well, also of the other class, are left out, and
    those whose files are among the train images of the class under another name.

    Raises:
        UserError: as ``train_sets``.
    """
    sets = {}
    patients = {patient for label in CLASSES for patient, _ in _rows(label, "train")}
    for label in CLASSES:
        checksums = {checksum for _, checksum in _rows(label, "train")}
        test = _rows(label, "test")
        kept = [
            index
            for index, (patient, checksum) in enumerate(test)
            if patient not in patients and checksum not in checksums
        ]
        whole = _image_set(label, "test", test)
        sets[label] = whole if len(kept) == len(test) else whole.take(np.array(kept, dtype=int))
    return sets


def check_counts(settings: Settings) -> None:
    """Refuse parameters that the prepared images are too few for, before hours of training.

    Raises:
        UserError: if a class has less than a batch of train images, or too few test images; or as
            ``train_sets``.
    """
    trained = settings.train.normal, settings.train.pneumonia
    for (label, part), train in zip(train_sets().items(), trained, strict=True):
        if train.batch_size > len(part):
            raise UserError(
                f"train.{label.lower()}.batch_size: {train.batch_size} is more than the "
                f"{len(part)} train images of {label}; set it lower"
            )
    patients = {label: part.patients for label, part in test_sets().items()}
    check_test_sizes(patients, settings.fid.sample_size)


def train_checksum() -> str:
    """Return the SHA-256 of the train images of both classes and of their patients' names."""
    sets = train_sets()
    named = [
        [[patient for patient, _ in _rows(label, "train")] for label in sets],
        [sha256_of_array(part.images) for part in sets.values()],
    ]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _image_set(label: str, split: str, rows: Sequence[Row]) -> ImageSet:
    """Open the images of a class and split as a memory map, with the table's patients."""
    images = read_array(array_path(label, split))
    if len(rows) != len(images):
        error = ValueError(f"it has {len(rows)} rows of {len(images)} images in {split}/{label}")
        raise unusable_file_error(table_path(), error)
    return ImageSet.of_class(images, label, Patients.from_names([patient for patient, _ in rows]))


def _rows(label: str, split: str) -> Sequence[Row]:
    """Read the table's rows of a class and split; the file is parsed once a process."""
    table = table_path()
    try:
        status = table.stat()
        return _parse(table, status.st_mtime_ns, status.st_size)[label, split]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:  # half a row
        raise unusable_file_error(table, error) from error


@lru_cache(maxsize=1)
def _parse(table: Path, mtime_ns: int, size: int) -> Mapping[tuple[str, str], Sequence[Row]]:
    """Read the table by class and split; time and size of the file are keys of the cache."""
    rows: dict[tuple[str, str], list[Row]] = {
        (label, split): [] for label in CLASSES for split in SPLITS
    }
    for row in read_rows(table):
        part = row["label"].upper(), row["split"]
        rows[part].append((sys.intern(row["patient"]), row["sha256"]))
    return rows
