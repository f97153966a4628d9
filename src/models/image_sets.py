"""Sets of generated images on disk: folders in Kaggle's layout, contact sheets and walks.

The folder OUT/train/<CLASS> holds one PNG file for each image. Beside ``train`` lie a table with a
row for each image, and a description of the whole set.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.errors import UserError
from ..common.files import atomic_folder, atomic_write, write_file, write_json
from ..common.logging import logger
from ..common.progress import Progress
from ..data.grids import tile
from .export import describe_generator
from .interpolation import encode_animation, interpolate_loop
from .io import LoadedGenerator
from .sampling import BATCH, draw_images, draw_latents, encode_png, text_chunks

Images = NDArray[np.uint8]
BLOCK = 16 * BATCH  # images that are held at once
MAX_COPIES = 0.5  # fraction of copies beyond which ``write_image_set`` gives up,
MIN_DRAWN = 50  # once so many images were drawn
SHEET_COLUMNS = 10
MAX_SHEET_IMAGES = 1000
MAX_STOPS = 100  # of a walk
PREFIX = "synthetic"  # of the names of our files


class ImageStream:
    """The images of a generator and a seed: number i is always the same image."""

    def __init__(
        self, saved: LoadedGenerator, device: torch.device, seed: int, truncation: float
    ) -> None:
        """Draw from a loaded generator on ``device``; see ``draw_latents`` for the numbers."""
        self.saved = saved
        self.seed, self.truncation = seed, truncation
        self.facts: dict[str, Any] = describe_generator(saved)
        self._device = device

    @property
    def label(self) -> str:
        """The class."""
        return self.saved.origin.label

    def latents(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Draw the noise of images by their numbers, (n, noise_width)."""
        width = self.saved.network.settings.noise_width
        return draw_latents([self.seed] * len(indices), indices, width, self.truncation)

    def images(self, latents: NDArray[np.float32]) -> Images:
        """Draw the images of some noise, uint8 (n, size, size)."""
        return draw_images(self.saved.network, latents, self._device)

    def describe(self, index: int | str) -> dict[str, Any]:
        """Return what the file of an image says of it."""
        return self.facts | {"seed": self.seed, "index": index, "truncation": self.truncation}


def image_folder(out: Path, label: str) -> Path:
    """Return where the images of a class lie within ``out``."""
    return out / "train" / label


def image_tables(out: Path, label: str) -> tuple[Path, Path]:
    """Return where the table of a class's images and the description of the set lie."""
    name = f"{PREFIX}_{label.lower()}"
    return out / f"{name}.csv", out / f"{name}.json"


def check_folder(out: Path, label: str, overwrite: bool) -> None:
    """Refuse to replace the images of a class if nobody asked for it, or if other files are there.

    Raises:
        UserError: it names the folder or a foreign file in it.
    """
    folder = image_folder(out, label)
    if folder.is_symlink():
        raise UserError(f"{folder}: it is a link, and would be replaced; give another --out")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: it is no folder; give another --out")
    start = f"{PREFIX}_{label.lower()}_"
    foreign = next((file for file in folder.iterdir() if not file.name.startswith(start)), None)
    if foreign is not None:
        raise UserError(f"{foreign}: it is not of this command; give another --out")
    if not overwrite and any(folder.iterdir()):
        raise UserError(
            f"{folder}: there are images already; give another --out, or --overwrite to replace "
            "them"
        )


def write_image_set(
    stream: ImageStream,
    out: Path,
    count: int,
    overwrite: bool,
    find_copies: Callable[[Images], NDArray[np.bool_]] | None = None,
) -> None:
    """Write images, their table and the description of the set: all of them or nothing.

    Args:
        stream: gives the images.
        out: the folder of the set.
        count: images to write.
        overwrite: whether an earlier set may be replaced.
        find_copies: tells which of some images are left out as copies; None keeps all.

    Raises:
        UserError: if more than ``MAX_COPIES`` of the images are copies.
    """
    label = stream.label
    rows: list[dict[str, Any]] = []
    left_out: list[int] = []  # numbers of copies
    place = image_folder(out, label)
    table_file, description_file = image_tables(out, label)
    with (
        atomic_folder(place) as folder,
        Progress(f"drawing {label}", count, "images") as shown,
    ):
        while len(rows) < count:
            # Draw a block, and sort the copies out.
            start = len(rows) + len(left_out)
            indices = range(start, start + min(BLOCK, count - len(rows)))
            images = stream.images(stream.latents(indices))
            keep = ~find_copies(images) if find_copies else np.ones(len(images), dtype=bool)
            left_out += [index for index, good in zip(indices, keep, strict=True) if not good]
            # Write the others.
            for index, image in ((indices[row], images[row]) for row in np.flatnonzero(keep)):
                facts = stream.describe(index)
                file = f"{PREFIX}_{label.lower()}_{stream.seed}_{index:06d}.png"
                (folder / file).write_bytes(encode_png(image, facts))
                rows.append({"file": f"train/{label}/{file}"} | facts)
            _check_copies(len(left_out), len(rows) + len(left_out))
            shown.advance(int(keep.sum()))
        check_folder(out, label, overwrite)  # again: another process may have been quicker
        with atomic_write(table_file) as table, atomic_write(description_file) as description:
            with table.open("w", encoding="utf-8", newline="") as file_of_rows:
                writer = csv.DictWriter(file_of_rows, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            numbers = {"images": count, "left_out_as_copies": left_out if find_copies else None}
            write_json(description, _description(stream, numbers))
    if find_copies is not None:
        logger.info(
            f"{label}: {len(left_out)} of {count + len(left_out)} images were left out, as "
            "near to a train image as copies are"
        )
    logger.info(f"{label}: {count} images in {place}, described in {table_file} and .json")


def write_contact_sheet(stream: ImageStream, file: Path, count: int) -> None:
    """Write a PNG file that shows the first images in rows."""
    shown = min(count, MAX_SHEET_IMAGES)
    sheet = tile(stream.images(stream.latents(range(shown))), min(SHEET_COLUMNS, shown))
    write_file(file, encode_png(sheet, stream.describe(f"0 to {shown - 1}")))
    logger.info(f"{stream.label}: {shown} images in {file}")


def write_walk(stream: ImageStream, file: Path, count: int, frames: int) -> None:
    """Write an animation that walks through the first images, ``frames`` from one to the next."""
    stops = min(count, MAX_STOPS)
    images = stream.images(interpolate_loop(stream.latents(range(stops)), frames))
    facts = stream.describe(f"0 to {stops - 1}, and between")
    write_file(file, encode_animation(images, file.suffix.lower(), text_chunks(facts)))
    logger.info(f"{stream.label}: {len(images)} frames through {stops} images in {file}")


def _check_copies(copies: int, drawn: int) -> None:
    """Give up on a generator that mostly copies.

    Raises:
        UserError: with both numbers.
    """
    if drawn >= MIN_DRAWN and copies > MAX_COPIES * drawn:
        raise UserError(
            f"--reject-copies: {copies} of the first {drawn} images are as near to a train image "
            "as a copy; see the report's verdict on this generator, and train it anew"
        )


def _description(stream: ImageStream, numbers: dict[str, Any]) -> dict[str, Any]:
    """Return what the JSON file of a set says of it."""
    origin = stream.saved.origin
    return stream.facts | {
        "images": numbers["images"],
        "seed": stream.seed,
        "truncation": stream.truncation,
        "left_out_as_copies": numbers["left_out_as_copies"],
        "image_size": stream.saved.network.image_size,
        "learnt_from": {
            "source": origin.source,
            "images": origin.images,
            "sha256": origin.images_sha256,
        },
        "training": origin.training,
    }
