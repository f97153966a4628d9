"""Train and test images of a source: by folders or a table, by a list of test images, or random."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from ..common.errors import UserError
from ..common.rng import Stream, numpy_stream
from ..config.data import DataSettings
from .classes import CLASSES, SPLITS
from .labels import SourceImage
from .patients import Patients


def check_split(images: Sequence[SourceImage], path: Path) -> None:
    """Refuse folders that do not give each image a split."""
    splits = {image.split for image in images}
    if images and not splits.issuperset(SPLITS):
        raise UserError(
            f"data.test_share: {path} has no train and test folders; set the share of the images "
            "to test on, such as 0.2"
        )
    for image in images:
        if not image.split:
            raise UserError(
                f"data.path: {image.entry.path} has no split, as others have: it is in no folder "
                "called train, test or val, and no table states it"
            )


def split_at_random(
    images: Sequence[SourceImage], settings: DataSettings, path: Path
) -> list[SourceImage]:
    """Return the images with a random split by patient, in which each class has the same share.

    Patients with images of both classes are drawn apart. A single patient is a train patient.

    Raises:
        UserError: if the images have a split already.
    """
    _refuse_folders(images, path, "data.test_share", "set it to 0")
    labels: dict[tuple[bool, str], set[str]] = {}
    for image in images:
        labels.setdefault(image.unit, set()).add(image.label)
    tested: set[int] = set()
    for code, stratum in enumerate(({CLASSES[0]}, {CLASSES[1]}, set(CLASSES))):
        rows = np.array([i for i, image in enumerate(images) if labels[image.unit] == stratum], int)
        ids = np.unique([repr(images[row].unit) for row in rows], return_inverse=True)[1]
        patients = Patients(ids)
        if len(rows) and patients.count > 1:
            rng = numpy_stream(Stream.SOURCE_SPLIT, settings.seed, code)
            tested.update(rows[patients.split(settings.test_share, rng)[1]].tolist())
    return [
        replace(image, split="test" if number in tested else "train")
        for number, image in enumerate(images)
    ]


def split_by_list(
    images: Sequence[SourceImage], listed: Collection[PurePosixPath], path: Path
) -> list[SourceImage]:
    """Return the images with those as test images that a list names, and all others to train.

    Raises:
        UserError: if the images have a split already.
    """
    _refuse_folders(images, path, "data.test_list", "empty it")
    return [
        replace(image, split="test" if image.entry.path in listed else "train") for image in images
    ]


def _refuse_folders(images: Sequence[SourceImage], path: Path, key: str, way_out: str) -> None:
    """Refuse a second split beside that of folders."""
    if {image.split for image in images}.issuperset(SPLITS):
        raise UserError(
            f"{key}: {path} has train and test folders of its own; {way_out} to use them, or give "
            "images without them"
        )
