"""From image files to grey arrays of one size."""

import csv
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..common.errors import UserError
from ..common.processes import map_in_order
from ..common.progress import progress
from ..config.data import PreprocessSettings
from .classes import CLASSES, SPLITS
from .decode import decode_grey
from .tables import ArrayWriter, Fingerprints, atomic_table, count_rows, rows_of

IMAGES_AHEAD = 32  # of each worker that are at work or wait to be used


@dataclass(frozen=True)
class Prepared:
    """What was prepared, and what a reader of the images should know about them."""

    images: dict[tuple[str, str], int]  # by split and class
    mean_grey: dict[tuple[str, str], float]
    bad: dict[str, str]  # file -> reason
    identical_within: int  # files whose bytes an earlier file of the same split has
    identical_across: int  # files of the test split whose bytes the train split has
    patients_across: int  # patients with images in both splits of one class


def prepare_images(table: Path, folder: Path, settings: PreprocessSettings, out: Path) -> Prepared:
    """Decode, grey and resize every image of a table (see ``src.data.sources``), on all cores.

    Writes the images of each split and class to ``out/<class>/<split>.npy``, uint8 of shape
    (n, size, size), in the order of the table; and ``out/table.csv``, the table with each image's
    ``row`` in its array, bad images left out. Some dozens for each core are in memory.

    Args:
        table: a CSV file with the columns of ``ImageRecord``.
        folder: where its files lie.
        settings: how to prepare them.
        out: an existing empty folder.

    Raises:
        UserError: if images are bad and ``on_bad_image`` is "refuse" (the first ones are named),
            or if nothing is left of a split and class.
    """
    places = [(split, label) for split in SPLITS for label in CLASSES]
    totals = dict.fromkeys(places, 0)
    contents = {split: Fingerprints() for split in SPLITS}
    patients = {place: Fingerprints() for place in places}
    bad: dict[str, str] = {}
    with table.open(encoding="utf-8", newline="") as stream:
        columns = [*next(csv.reader(stream)), "row"]
    with ExitStack() as stack:
        kept = stack.enter_context(atomic_table(out / "table.csv", columns))
        arrays = {
            (split, label): stack.enter_context(
                ArrayWriter(out / label.lower() / f"{split}.npy", 2 * (settings.image_size,))
            )
            for split, label in places
        }
        for row, result in _decode_all(table, folder, settings):
            if isinstance(result, str):
                bad[row["file"]] = result
                continue
            place = row["split"], row["label"]
            kept.writerow(row | {"row": arrays[place].rows})
            arrays[place].append(result)
            totals[place] += int(result.sum())
            contents[row["split"]].add(row["sha256"])
            patients[place].add(row["patient"])
        if bad and settings.on_bad_image == "refuse":
            first = "; ".join(f"{name}: {reason}" for name, reason in list(bad.items())[:5])
            more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise UserError(
                f"{len(bad)} bad images: {first}{more} (preprocess.on_bad_image = skip leaves "
                "them out)"
            )
        for (split, label), array in arrays.items():
            if not array.rows:
                raise UserError(f"no usable image is left in {split}/{label}")
    counts = {place: array.rows for place, array in arrays.items()}
    train, test = SPLITS
    return Prepared(
        images=counts,
        mean_grey={
            place: totals[place] / counts[place] / settings.image_size**2 for place in places
        },
        bad=bad,
        identical_within=sum(found.repeated() for found in contents.values()),
        identical_across=contents[test].among(contents[train]),
        patients_across=sum(
            patients[test, label].distinct_among(patients[train, label]) for label in CLASSES
        ),
    )


def decode_image(path: Path, settings: PreprocessSettings) -> NDArray[np.uint8]:
    """One image as grey uint8 of shape (size, size), as ``decode_grey`` makes it.

    Raises:
        ValueError: if the image cannot be decoded, is too small or large, or is constant.
    """
    size = settings.image_size
    array = decode_grey(
        path, settings.min_side, size, Image.Resampling[settings.resampling.upper()]
    )
    if array.min() == array.max():
        raise ValueError("every pixel has the same value")
    return array


def _decode_all(
    table: Path, folder: Path, settings: PreprocessSettings
) -> Iterator[tuple[dict[str, str], NDArray[np.uint8] | str]]:
    """Each row of the table with its array, or the reason why it is bad, in order."""

    def decode(row: dict[str, str]) -> tuple[dict[str, str], NDArray[np.uint8] | str]:
        try:
            return row, decode_image(folder / row["file"], settings)
        except ValueError as error:
            return row, str(error)

    # Pillow decodes and resizes without the interpreter's lock, so threads use all cores.
    workers = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(workers) as pool:
        results = map_in_order(pool, decode, rows_of(table), IMAGES_AHEAD * workers)
        yield from progress(results, "preparing images", count_rows(table), "images")
