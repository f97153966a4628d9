"""Preprocessing of image files to grey arrays of one size."""

import csv
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..common.errors import UserError
from ..common.processes import available_cores, map_in_order
from ..common.progress import progress
from ..config.data import PreprocessSettings
from .classes import CLASSES, SPLITS
from .decode import decode_grey
from .tables import ArrayWriter, Fingerprints, atomic_table, count_rows, read_rows

MAX_NAMED = 5  # bad images that an error names
IMAGES_AHEAD = 32  # for each thread, images that are being decoded or wait to be used


@dataclass(frozen=True)
class PreprocessResult:
    """Counts, mean grey values and faults of the preprocessed images."""

    images: dict[tuple[str, str], int]  # by split and class
    mean_grey: dict[tuple[str, str], float]  # by split and class, 0 to 255
    bad: dict[str, str]  # by file, the reason
    identical_within: int  # files whose bytes an earlier file of the same split has
    identical_across: int  # files of the test split whose bytes the train split has
    patients_across: int  # patients with images in both splits
    enlarged: int  # images whose original has a side of fewer pixels than the arrays


def preprocess_images(
    table: Path, folder: Path, settings: PreprocessSettings, out: Path
) -> PreprocessResult:
    """Decode every image of a table, convert it to grey and resize it, on all cores.

    Writes the images of each split and class to ``out/<class>/<split>.npy``, uint8 of shape
    (n, size, size), in the order of the table. ``out/table.csv`` is the table without bad images,
    with each image's ``row`` in its array. Memory holds some dozens of images for each core.

    Args:
        table: a CSV file with the columns of ``src.data.sources.ImageRecord``.
        folder: the folder that the table's files are relative to.
        settings: the preprocess section.
        out: an existing empty folder.

    Raises:
        UserError: if images are bad and ``on_bad_image`` is "refuse" (the first ones are named),
            or if a split and class has no usable image.
    """
    # Prepare the counts and the table's columns.
    parts = [(split, label) for split in SPLITS for label in CLASSES]
    totals = dict.fromkeys(parts, 0)
    contents = {split: Fingerprints() for split in SPLITS}
    patients = {split: Fingerprints() for split in SPLITS}
    bad: dict[str, str] = {}
    enlarged = 0
    with table.open(encoding="utf-8", newline="") as stream:
        columns = [*next(csv.reader(stream)), "row"]
    # Decode the images and write them as they come.
    with ExitStack() as stack:
        out_table = stack.enter_context(atomic_table(out / "table.csv", columns))
        arrays = {
            (split, label): stack.enter_context(
                ArrayWriter(out / label.lower() / f"{split}.npy", 2 * (settings.image_size,))
            )
            for split, label in parts
        }
        for row, image in _decode_all(table, folder, settings):
            if isinstance(image, str):
                bad[row["file"]] = image
                continue
            part = row["split"], row["label"]
            out_table.writerow(row | {"row": arrays[part].rows})
            arrays[part].append(image)
            totals[part] += int(image.sum())
            enlarged += min(int(row["width"]), int(row["height"])) < settings.image_size
            contents[row["split"]].add(row["sha256"])
            patients[row["split"]].add(row["patient"])
        _refuse_faults(bad, arrays, settings)
    # Summarise the counts.
    counts = {part: array.rows for part, array in arrays.items()}
    train, test = SPLITS
    return PreprocessResult(
        images=counts,
        mean_grey={part: totals[part] / counts[part] / settings.image_size**2 for part in parts},
        bad=bad,
        identical_within=sum(files.count_repeated() for files in contents.values()),
        identical_across=contents[test].count_in(contents[train]),
        patients_across=patients[test].count_distinct_in(patients[train]),
        enlarged=enlarged,
    )


def _refuse_faults(
    bad: Mapping[str, str],
    arrays: Mapping[tuple[str, str], ArrayWriter],
    settings: PreprocessSettings,
) -> None:
    """Refuse bad images if the settings say so, and a split and class without images."""
    if bad and settings.on_bad_image == "refuse":
        named = [f"{name}: {reason}" for name, reason in islice(bad.items(), MAX_NAMED)]
        if len(bad) > MAX_NAMED:
            named.append(f"and {len(bad) - MAX_NAMED} more")
        raise UserError(
            f"{len(bad)} bad images: {'; '.join(named)} (preprocess.on_bad_image = skip leaves "
            "them out)"
        )
    for (split, label), array in arrays.items():
        if not array.rows:
            raise UserError(f"no usable image is left in {split}/{label}")


def decode_image(path: Path, settings: PreprocessSettings) -> NDArray[np.uint8]:
    """Decode an image as grey uint8, (size, size), with ``src.data.decode.decode_grey``.

    Raises:
        ValueError: if the image cannot be decoded, is too small or large, or is constant.
    """
    resampling = Image.Resampling[settings.resampling.upper()]
    array = decode_grey(
        path,
        settings.min_side,
        settings.image_size,
        resampling,
        settings.fit,
        settings.equalize,
    )
    if array.min() == array.max():
        raise ValueError("every pixel has the same value")
    return array


def _decode_all(
    table: Path, folder: Path, settings: PreprocessSettings
) -> Iterator[tuple[dict[str, str], NDArray[np.uint8] | str]]:
    """Yield each row of the table with its image, or the reason why that is bad, in order."""

    def decode(row: dict[str, str]) -> tuple[dict[str, str], NDArray[np.uint8] | str]:
        try:
            return row, decode_image(folder / row["file"], settings)
        except ValueError as error:
            return row, str(error)

    # Pillow decodes and resizes without the interpreter's lock, so threads use all cores.
    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool:
        results = map_in_order(pool, decode, read_rows(table), IMAGES_AHEAD * threads)
        yield from progress(results, "preparing images", count_rows(table), "images")
