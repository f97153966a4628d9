"""A folder or zip archive of somebody's own images, in any nesting.

Nothing of the files but their pixels leaves the source: images become PNG files that are named by
number, and patients become numbers too. No original name or path is returned or logged, except in
errors and warnings, which go to stderr.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from ..common.errors import UserError
from ..common.files import expand_user
from ..common.logging import logger
from ..common.processes import available_cores, map_in_order
from ..common.progress import progress
from ..common.rng import Stream, numpy_stream
from ..config.data import DataSettings
from .archive import GIB, MAX_FILE_BYTES, ArchiveEntry, list_entries, read_entry
from .classes import CLASSES, SPLITS
from .decode import SUFFIXES, decode_pixels, encode_png
from .label_table import read_table
from .labels import UNUSED_SPLIT, SourceImage, format_counts, label_by_folder, label_by_table
from .patients import Patients
from .sources import ImageRecord, SourceReader, resolve_path, write_numbered

IMAGES_AHEAD = 4  # for each thread, images that are being decoded or wait to be written


def collect_folder(settings: DataSettings, root: Path, folder: Path) -> Iterator[ImageRecord]:
    """Write the pixels of the images as PNG, numbered by patient in a random order."""
    images, numbers = _numbered_images(settings, root)
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


def original_path(settings: DataSettings, root: Path, number: int) -> str:
    """Return the path within the source of the image that became ``<number>.png``.

    Raises:
        UserError: if there is no such number, or as ``select_images``.
    """
    images, _ = _numbered_images(settings, root)
    if not 0 <= number < len(images):
        raise UserError(f"there is no image {number}; the last one is {len(images) - 1}")
    return images[number].entry.path.as_posix()


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
    table = table_beside(settings, root)
    path = resolve_path(settings, root, table=table)
    entries = list_entries(path, round(settings.max_unpacked_gib * GIB))
    others = Counter(
        entry.path.suffix.lower() or "no suffix" for entry in entries if not _is_image(entry)
    )
    files = [entry for entry in entries if _is_image(entry)]
    if settings.table.path:
        rows = read_table(
            _table_content(table, entries, settings), settings.table.path, settings.table
        )
        labelled = label_by_table(files, rows, settings.classes)
    else:
        labelled = label_by_folder(files, settings.classes)
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
        logger.warning(f"left aside: {format_counts(others)}; images end in {', '.join(SUFFIXES)}")
    return images


def table_beside(settings: DataSettings, root: Path) -> Path | None:
    """Return the table of ``data.table.path``, or None if there is none outside ``data.path``."""
    table = root / expand_user(settings.table.path)
    return table if settings.table.path and table.is_file() else None


def number_patients(images: Sequence[SourceImage], seed: int) -> Mapping[tuple[bool, str], int]:
    """Number the patients in a random order, which says nothing of their ids."""
    units = sorted({image.unit for image in images})
    order = numpy_stream(Stream.SOURCE_NUMBERS, seed).permutation(len(units))
    return dict(zip(units, order.tolist(), strict=True))


def _numbered_images(
    settings: DataSettings, root: Path
) -> tuple[list[SourceImage], Mapping[tuple[bool, str], int]]:
    """Return the images, each at the index that is its number, and the numbers of patients."""
    images = select_images(settings, root)
    numbers = number_patients(images, settings.seed)
    images.sort(key=lambda image: (numbers[image.unit], image.entry.path.as_posix()))
    return images, numbers


def _is_image(entry: ArchiveEntry) -> bool:
    """Return whether an entry is taken for an image, by its name."""
    return entry.path.suffix.lower() in SUFFIXES


def _encode(content: bytes) -> bytes | str:
    """Encode the pixels of an image file as PNG, or return why they cannot be read."""
    try:
        return encode_png(decode_pixels(content))
    except ValueError as error:
        return str(error)


def _table_content(
    table: Path | None, entries: Sequence[ArchiveEntry], settings: DataSettings
) -> bytes:
    """Read the table, which is a file of its own or one of the source's."""
    if table is not None:
        if table.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"data.table.path: {table} is of more than {MAX_FILE_BYTES} bytes")
        return table.read_bytes()
    for entry in entries:
        if entry.path.as_posix() == settings.table.path:
            return read_entry(entry)
    raise UserError(
        f"data.table.path: {settings.table.path}: there is no such file, also not in data.path"
    )


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
                f"data.path: {image.entry.path} has no split, as others have: it is in no folder "
                "called train, test or val, and no table states it"
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
    where = "with a label" if settings.table.path else "in a folder called"
    for label in CLASSES:
        if all((split, label) in empty for split in SPLITS):
            raise UserError(
                f"data.classes.{label.lower()}: {path} has no image {where} "
                f"{' or '.join(settings.classes.of(label))}"
            )
    if empty:
        raise UserError(f"data.path: {path} has no image in {', '.join(map('/'.join, empty))}")


def _recognise(path: Path) -> str:
    """Describe how many images there are."""
    images = sum(_is_image(entry) for entry in list_entries(path))
    return f"{images} images, whose classes, patients and split data.* describes" if images else ""


FOLDER = SourceReader(collect_folder, count_folder_train_images, _recognise)
