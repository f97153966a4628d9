"""From image files to grey arrays of one size."""

import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from src.data.classes import CLASSES, SPLITS
from src.errors import UserError
from src.progress import progress
from src.settings.data import PreprocessSettings

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# A JPEG may be decoded at a half, quarter or eighth of its size; twice the target keeps what the
# resize filter needs.
DRAFT_MARGIN = 2
LARGEST_PIXELS = 100_000_000  # of one original; more is taken for a decompression bomb
DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, MemoryError)


@dataclass(frozen=True)
class Prepared:
    """One split and class: uint8 images of shape (n, size, size), in the order of ``table``."""

    split: str
    label: str
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class Quality:
    """What a reader of the images should know about them."""

    bad: dict[str, str]  # file -> reason
    identical_within: int  # files whose bytes another file of the same split has
    identical_across: int  # files of the test split whose bytes the train split has
    patients_across: int  # patients with images in both splits of one class


def prepare_images(
    table: pd.DataFrame, folder: Path, settings: PreprocessSettings
) -> tuple[list[Prepared], pd.DataFrame, Quality]:
    """Decode, grey and resize every image of ``table`` (see ``src.data.sources``), on all cores.

    Returns:
        the arrays of each split and class; the table with each image's ``row`` in its array
        (bad images left out); and the quality.

    Raises:
        UserError: if images are bad and ``on_bad_image`` is "refuse" (the first ones are named),
            or if nothing is left of a split and class.
    """
    table = table.sort_values(["split", "label", "file"], ignore_index=True)
    files = [folder / name for name in table["file"]]
    arrays: list[NDArray[np.uint8]] = []
    bad: dict[str, str] = {}
    for name, result in zip(table["file"], _decode_all(files, settings), strict=True):
        if isinstance(result, str):
            bad[name] = result
        else:
            arrays.append(result)
    if bad and settings.on_bad_image == "refuse":
        first = "; ".join(f"{name}: {reason}" for name, reason in list(bad.items())[:5])
        more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise UserError(
            f"{len(bad)} bad images: {first}{more} (preprocess.on_bad_image = skip leaves them out)"
        )
    kept = table[~table["file"].isin(bad)].reset_index(drop=True)
    kept["row"] = kept.groupby(["split", "label"]).cumcount()
    prepared = []
    for split in SPLITS:
        for label in CLASSES:
            rows = kept.index[(kept["split"] == split) & (kept["label"] == label)]
            if rows.empty:
                raise UserError(f"no usable image is left in {split}/{label}")
            prepared.append(Prepared(split, label, np.stack([arrays[row] for row in rows])))
    return prepared, kept, _quality(kept, bad)


def decode_image(path: Path, settings: PreprocessSettings) -> NDArray[np.uint8]:
    """One image as grey uint8 of shape (size, size); 16-bit images keep their upper 8 bits.

    Raises:
        ValueError: if the image cannot be decoded, is too small or large, or is constant.
    """
    size = settings.size
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if image.width * image.height > LARGEST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            if min(image.size) < settings.min_side:
                raise ValueError(
                    f"{image.width} x {image.height} is smaller than {settings.min_side} pixels"
                )
            image.draft("L", (DRAFT_MARGIN * size, DRAFT_MARGIN * size))
            upright = ImageOps.exif_transpose(image)
            grey = _grey(upright).resize((size, size), FILTERS[settings.filter])
    except Image.DecompressionBombWarning as error:
        raise ValueError(str(error)) from error
    except DECODE_ERRORS as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    array = np.asarray(grey, dtype=np.uint8)
    if array.min() == array.max():
        raise ValueError("every pixel has the same value")
    return array


def _decode_all(
    files: list[Path], settings: PreprocessSettings
) -> Iterable[NDArray[np.uint8] | str]:
    """Each file's array, or the reason why it is bad, in order."""

    def decode(file: Path) -> NDArray[np.uint8] | str:
        try:
            return decode_image(file, settings)
        except ValueError as error:
            return str(error)

    def results() -> Iterator[NDArray[np.uint8] | str]:
        # Pillow decodes and resizes without the interpreter's lock, so threads use all cores.
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            yield from pool.map(decode, files)

    return progress(results(), "preparing images", len(files), "images")


def _grey(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit grey; transparency is laid over black."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not finite")
        top = 255.0 if values.max() <= 255 else 65535.0
        return Image.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("L")
    return image.convert("L")


def _quality(table: pd.DataFrame, bad: dict[str, str]) -> Quality:
    """Count identical files and patients that cross the splits."""
    train, test = table[table["split"] == "train"], table[table["split"] == "test"]
    across = 0
    for label in CLASSES:
        patients = [set(part.loc[part["label"] == label, "patient"]) for part in (train, test)]
        across += len(patients[0] & patients[1])
    return Quality(
        bad=bad,
        identical_within=int(table.duplicated(["split", "sha256"]).sum()),
        identical_across=int(test["sha256"].isin(set(train["sha256"])).sum()),
        patients_across=across,
    )
