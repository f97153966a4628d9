"""A folder or zip archive of somebody's own images, in any nesting.

Nothing of the files but their pixels leaves the source: images become PNG files that are named by
number, and patients become numbers too. No original name or path is returned or logged, except in
errors and warnings, which go to stderr.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

import numpy as np

from ..common.errors import UserError
from ..common.logging import logger
from ..common.processes import available_cores, map_in_order
from ..common.progress import progress
from ..common.rng import Stream, numpy_stream
from ..config.data import ClassPatterns, DataSettings
from .archive import GIB, ArchiveEntry, list_entries, read_entry
from .classes import CLASSES, SPLITS
from .decode import SUFFIXES, decode_pixels, encode_png
from .patients import Patients
from .sources import ImageRecord, SourceReader, resolve_path, write_numbered

UNUSED_SPLIT = "val"
SPLIT_OF_FOLDER = {  # in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), UNUSED_SPLIT),
}
MAX_NAMED = 10  # labels that a warning names
IMAGES_AHEAD = 4  # for each thread, images that are being decoded or wait to be written


@dataclass(frozen=True)
class SourceImage:
    """An image of one of the two classes, before it is read."""

    entry: ArchiveEntry
    label: str
    split: str  # empty if it is not known
    patient: str  # as in the source; empty if it is not known

    @property
    def unit(self) -> tuple[bool, str]:
        """Key of the patient, or of an image without one, which is a patient of its own."""
        return (True, self.patient) if self.patient else (False, self.entry.path.as_posix())


def collect_folder(settings: DataSettings, root: Path, folder: Path) -> Iterator[ImageRecord]:
    """Write the pixels of the images as PNG, numbered by patient in a random order."""
    images = select_images(settings, root)
    numbers = number_patients(images, settings.seed)
    images.sort(key=lambda image: (numbers[image.unit], image.entry.path.as_posix()))
    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool:
        contents = (read_entry(image.entry) for image in images)
        encoded = map_in_order(pool, _encode, contents, IMAGES_AHEAD * threads)
        rows = zip(images, progress(encoded, "reading images", len(images), "images"), strict=True)
        for number, (image, content) in enumerate(rows):
            patient = f"{numbers[image.unit]:06d}" if image.patient else ""
            png = content if isinstance(content, bytes) else b""
            record = write_numbered(folder, image.split, image.label, number, png, patient)
            if isinstance(content, str):
                logger.warning(f"{image.entry.path} is a bad image, {record.file}: {content}")
            yield record


def count_folder_train_images(settings: DataSettings, root: Path) -> Mapping[str, int]:
    """Count the train images of each class."""
    counts = Counter(
        image.label for image in select_images(settings, root) if image.split == "train"
    )
    return {label: counts[label] for label in CLASSES}


def select_images(settings: DataSettings, root: Path) -> list[SourceImage]:
    """List the images of both classes with their splits and patients; say what is left aside.

    Raises:
        UserError: if the source is missing, unsafe or broken, an image fits both classes, there is
            no split or more than one, or a split and class has no image.
    """
    path = resolve_path(settings, root)
    entries = list_entries(path, round(settings.max_unpacked_gib * GIB))
    others = Counter(
        entry.path.suffix.lower() or "no suffix" for entry in entries if not _is_image(entry)
    )
    labelled = _labelled([entry for entry in entries if _is_image(entry)], settings.classes)
    images = [image for image in labelled if image.split != UNUSED_SPLIT]
    images = _with_patients(images, settings.patient_pattern)
    if settings.test_share:
        images = _split_at_random(images, settings, path)
    else:
        _check_split(images, path)
    _check_counts(images, settings, path)
    if unused := len(labelled) - len(images):
        logger.info(f"left aside: {unused} images of the {UNUSED_SPLIT} split")
    if others:
        logger.warning(f"left aside: {_named(others)}; images end in {', '.join(SUFFIXES)}")
    return images


def number_patients(images: Sequence[SourceImage], seed: int) -> Mapping[tuple[bool, str], int]:
    """Number the patients in a random order, which says nothing of their ids."""
    units = sorted({image.unit for image in images})
    order = numpy_stream(Stream.SOURCE_NUMBERS, seed).permutation(len(units))
    return dict(zip(units, order.tolist(), strict=True))


def _is_image(entry: ArchiveEntry) -> bool:
    """Return whether an entry is taken for an image, by its name."""
    return entry.path.suffix.lower() in SUFFIXES


def _encode(content: bytes) -> bytes | str:
    """Encode the pixels of an image file as PNG, or return why they cannot be read."""
    try:
        return encode_png(decode_pixels(content))
    except ValueError as error:
        return str(error)


def _labelled(entries: Sequence[ArchiveEntry], patterns: ClassPatterns) -> list[SourceImage]:
    """Return the images in folders of one class, with the split that their folders name."""
    images, depths = [], Counter[int]()
    others: list[tuple[str, ...]] = []  # folders of images of neither class
    for entry in entries:
        folders = entry.path.parts[:-1]
        ends = {label: _match(folders, getattr(patterns, label.lower())) for label in CLASSES}
        labels = [label for label, end in ends.items() if end is not None]
        if len(labels) > 1:
            raise UserError(
                f"data.classes: the folders of {entry.path} fit {' and '.join(labels)}; name the "
                "folders of each class more closely"
            )
        if not labels:
            others.append(folders)
            continue
        depths[ends[labels[0]] or 0] += 1
        named = [name.lower() for name in folders if name.lower() in SPLIT_OF_FOLDER]
        split = SPLIT_OF_FOLDER[named[-1]] if named else ""
        images.append(SourceImage(entry, labels[0], split, ""))
    # Other labels are at the depth at which those of the classes are.
    depth = max(depths, key=lambda depth: depths[depth], default=0)
    names = Counter(
        folders[min(depth, len(folders) - 1)] if folders else "no folder" for folders in others
    )
    if names:
        logger.warning(f"left aside, images of neither class: {_named(names, 'in ')}")
    return images


def _match(folders: Sequence[str], patterns: Sequence[str]) -> int | None:
    """Return the index of the last folder that a pattern fits, or None.

    A pattern with slashes fits as many folders, one in the other.
    """
    for pattern, end in product(patterns, reversed(range(len(folders)))):
        start = end - pattern.count("/")
        name = "/".join(folders[max(start, 0) : end + 1])
        if start >= 0 and fnmatchcase(name.casefold(), pattern.casefold()):
            return end
    return None


def _named(counts: Counter[str], preposition: str = "") -> str:
    """Format counts by name, the most frequent first."""
    named = [f"{count} {preposition}{name}" for name, count in counts.most_common(MAX_NAMED)]
    rest = len(counts) - len(named)
    return ", ".join(named) + (f", and {rest} more names" if rest else "")


def _with_patients(images: Sequence[SourceImage], pattern: str) -> list[SourceImage]:
    """Return the images with the patients that a regular expression finds in their paths."""
    if not pattern:
        return list(images)
    expression = re.compile(pattern)
    found = [expression.search(image.entry.path.as_posix()) for image in images]
    if images and not any(found):
        raise UserError(
            f"data.patient_pattern: {pattern!r} fits no image's path, such as "
            f"{images[0].entry.path}"
        )
    group = min(expression.groups, 1)
    return [
        replace(image, patient=(match[group] or "") if match else "")
        for image, match in zip(images, found, strict=True)
    ]


def _check_split(images: Sequence[SourceImage], path: Path) -> None:
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
                f"data.path: {image.entry.path} is in no folder called train, test or val, as "
                "others are; move it there, or set data.test_share for a set without these folders"
            )


def _split_at_random(
    images: Sequence[SourceImage], settings: DataSettings, path: Path
) -> list[SourceImage]:
    """Return the images with a random split by patient, in which each class has the same share.

    Patients with images of both classes are drawn apart. A single patient is a train patient.

    Raises:
        UserError: if the images have a split already.
    """
    if {image.split for image in images}.issuperset(SPLITS):
        raise UserError(
            f"data.test_share: {path} has train and test folders of its own; set it to 0 to use "
            "them, or give images without them"
        )
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


def _check_counts(images: Sequence[SourceImage], settings: DataSettings, path: Path) -> None:
    """Refuse a split and class without images."""
    counts = Counter((image.split, image.label) for image in images)
    empty = [part for part in product(SPLITS, CLASSES) if not counts[part]]
    for label in CLASSES:
        names = getattr(settings.classes, label.lower())
        if all((split, label) in empty for split in SPLITS):
            raise UserError(
                f"data.classes.{label.lower()}: {path} has no image in a folder called "
                f"{' or '.join(names)}"
            )
    if empty:
        raise UserError(f"data.path: {path} has no image in {', '.join(map('/'.join, empty))}")


FOLDER = SourceReader(collect_folder, count_folder_train_images)
