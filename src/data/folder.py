"""A folder or zip archive of somebody's own images, in any nesting.

Nothing of the files but their pixels leaves the source: images become PNG files that are named by
number, and patients become numbers too. No original name or path is returned or logged, except in
errors and warnings, which go to stderr. DICOM files are among the images; of their tags nothing
but counts is logged.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path, PurePosixPath

from ..common.errors import UserError
from ..common.files import expand_user
from ..common.logging import logger
from ..common.processes import available_cores, map_in_order
from ..common.progress import progress
from ..common.rng import Stream, numpy_stream
from ..config.data import DataSettings
from .archive import GIB, MAX_FILE_BYTES, ArchiveEntry, list_entries, read_entry, read_start
from .classes import CLASSES, SPLITS
from .decode import SUFFIXES, decode_pixels, encode_png
from .label_table import decode_text, match_files, read_table
from .labels import UNUSED_SPLIT, SourceImage, format_counts, label_by_folder, label_by_table
from .sources import ImageRecord, SourceReader, resolve_path, write_numbered
from .splits import check_split, split_at_random, split_by_list

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # in any letter case; many files have none of them
DICOM_MARK = b"DICM"
MARK_OFFSET = 128  # bytes
DICOMDIR = "DICOMDIR"  # the list of files on a DICOM medium, which has their mark too
IMAGES_AHEAD = 4  # for each thread, images that are being decoded or wait to be written


def collect_folder(settings: DataSettings, root: Path, folder: Path) -> Iterator[ImageRecord]:
    """Write the pixels of the images as PNG, numbered by patient in a random order."""
    images, numbers = _numbered_images(settings, root)
    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool:
        contents = ((image.entry, read_entry(image.entry)) for image in images)
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
    path = resolve_path(settings, root, beside=files_beside(settings, root))
    entries = list_entries(path, round(settings.max_unpacked_gib * GIB))
    files = [entry for entry in entries if _is_image(entry)]
    taken = {entry.path for entry in files}
    others = Counter(
        entry.path.suffix.lower() or "no suffix" for entry in entries if entry.path not in taken
    )
    # Find the classes, then the patients, then the splits.
    if table := settings.table.path:
        content = _read_file("data.table.path", table, root, entries)
        rows = read_table(content, table, settings.table)
        labelled = label_by_table(files, rows, settings.classes)
    else:
        labelled = label_by_folder(files, settings.classes)
    images = [image for image in labelled if image.split != UNUSED_SPLIT]
    images = _with_headers(_with_patients(images, settings.patient_pattern))
    if settings.test_share:
        images = split_at_random(images, settings, path)
    elif settings.test_list:
        content = _read_file("data.test_list", settings.test_list, root, entries)
        text = decode_text(content, f"data.test_list: {settings.test_list}")
        names = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
        listed = {
            entry.path for entry in match_files(list(names), files, "data.test_list").values()
        }
        images = split_by_list(images, listed, path)
    else:
        check_split(images, path)
    _check_counts(images, settings, path)
    if unused := sum(image.split == UNUSED_SPLIT for image in labelled):
        logger.info(f"left aside: {unused} images of the {UNUSED_SPLIT} split")
    if others:
        logger.warning(
            f"left aside: {format_counts(others)}; images end in {', '.join(SUFFIXES)} or are DICOM"
        )
    return images


def files_beside(settings: DataSettings, root: Path) -> list[Path]:
    """Return the table and the list of test images where they are outside ``data.path``."""
    named = [root / expand_user(name) for name in (settings.table.path, settings.test_list) if name]
    return [file for file in named if file.is_file()]


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
    """Return whether an entry is taken for an image: by its suffix, or by DICOM's mark."""
    if entry.path.suffix.lower() in (*SUFFIXES, *DICOM_SUFFIXES):
        return True
    end = MARK_OFFSET + len(DICOM_MARK)
    return (
        entry.size > end
        and entry.path.name.upper() != DICOMDIR
        and read_start(entry, end)[MARK_OFFSET:] == DICOM_MARK
    )


def _is_dicom(entry: ArchiveEntry) -> bool:
    """Return whether an image is a DICOM file."""
    return entry.path.suffix.lower() not in SUFFIXES


def _encode(image: tuple[ArchiveEntry, bytes]) -> bytes | str:
    """Encode the pixels of an image file as PNG, or return why they cannot be read."""
    entry, content = image
    decode = decode_pixels
    if _is_dicom(entry):
        from .dicom import decode_dicom as decode  # only here, since few sets have such files
    try:
        return encode_png(decode(content))
    except ValueError as error:
        return str(error)


def _read_file(key: str, name: str, root: Path, entries: Sequence[ArchiveEntry]) -> bytes:
    """Read the table or the list, which is a file of its own or one of the source's."""
    file = root / expand_user(name)
    if file.is_file():
        if file.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{key}: {file} is of more than {MAX_FILE_BYTES} bytes")
        return file.read_bytes()
    for entry in entries:
        if entry.path.as_posix() == name:
            return read_entry(entry)
    raise UserError(f"{key}: {name}: there is no such file, also not in data.path")


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


def _with_headers(images: Sequence[SourceImage]) -> list[SourceImage]:
    """Return the images without DICOM files of lateral views.

    A patient who is not known yet is the one of the file's header.
    """
    files = [image.entry for image in images if _is_dicom(image.entry)]
    if not files:
        return list(images)
    from .dicom import DicomHeader, read_header  # only here, since few sets have such files

    # Read the headers, and count what they lack.
    headers: dict[PurePosixPath, DicomHeader] = {}
    for entry in progress(files, "reading headers", len(files), "files"):
        with suppress(ValueError):  # nor can its pixels be read, which is then said
            headers[entry.path] = read_header(entry)
    missing = Counter(keyword for header in headers.values() for keyword in header.missing)
    for keyword, count in sorted(missing.items()):
        logger.info(f"{keyword} is missing in {count} of {len(files)} DICOM files")
    if lateral := {path for path, header in headers.items() if header.is_lateral}:
        logger.info(f"left aside: {len(lateral)} lateral views")
    # One id in all studies was put there in place of the patients' own.
    patients = {path: header.patient for path, header in headers.items() if header.patient}
    studies = {headers[path].study for path in patients}
    if len(set(patients.values())) == 1 and len(studies) > 1:
        logger.warning(
            "all DICOM files that state a PatientID state the same, in several studies; it is "
            "taken for missing. Give the patients by data.table.patient or data.patient_pattern"
        )
        patients = {}
    return [
        replace(image, patient=image.patient or patients.get(image.entry.path, ""))
        for image in images
        if image.entry.path not in lateral
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
    images = [entry for entry in list_entries(path) if _is_image(entry)]
    dicom = sum(map(_is_dicom, images))
    count = f"{len(images)} images" + (f" ({dicom} DICOM)" if dicom else "")
    return f"{count}, whose classes, patients and split data.* describes" if images else ""


FOLDER = SourceReader(collect_folder, count_folder_train_images, _recognise)
