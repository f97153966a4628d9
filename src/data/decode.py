"""Image files of any origin: formats that are read, limits of size, conversion to grey."""

import warnings
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from ..common.errors import DISK_ERRORS, UserError

LARGEST_PIXELS = 100_000_000  # of one image; more is taken for a decompression bomb
# Pillow warns beyond its limit and refuses twice as much; what is between is refused below.
Image.MAX_IMAGE_PIXELS = LARGEST_PIXELS

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Of Pillow's formats only those of images that people have: others start programs, as EPS does.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
# What Pillow raises for files that are damaged, or are none of images.
DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, MemoryError)


def open_image(source: Path | IO[bytes]) -> Image.Image:
    """Open an image file, of which only the header is read.

    Raises:
        ValueError: if it has too many pixels.
        Exception: one of ``DECODE_ERRORS``, if it is no image in one of ``FORMATS``.
    """
    try:
        image = Image.open(source, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if image.width * image.height > LARGEST_PIXELS:
        image.close()
        raise ValueError(f"{image.width} x {image.height} pixels are too many")
    return image


# A JPEG may be decoded at a half, quarter or eighth of its size; twice the target keeps what the
# resize filter needs.
DRAFT_MARGIN = 2
WHITE = 65535  # of an image of 16 bits
LEAST_TOP = 4096  # below it the largest value of such an image is one of 12 bits or fewer
ORIENTATION = ExifTags.Base.Orientation
UPRIGHT: dict[object, Image.Transpose] = {  # what turns an image as its EXIF says
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_grey(
    source: Path | IO[bytes],
    min_side: int = 1,
    size: int | None = None,
    resampling: Image.Resampling | None = None,
) -> NDArray[np.uint8]:
    """One image as grey uint8, upright as its EXIF says, (h, w) or resized to (size, size).

    Transparency is laid over black; images of more than 8 bits keep the upper 8 of 16.

    Raises:
        ValueError: if the image cannot be decoded, is too small or large, or if its values of more
            than 8 bits end so low or high that they are on another scale.
        UserError: if it is not there.
        OSError: if the disk or its rights fail.
    """
    try:
        with open_image(source) as image:
            if min(image.size) < min_side:
                raise ValueError(
                    f"{image.width} x {image.height} is smaller than {min_side} pixels"
                )
            if size is not None:
                image.draft("L", (DRAFT_MARGIN * size, DRAFT_MARGIN * size))
            image.load()  # a TIFF is turned by this, and then has no tag that tells of it
            turn = UPRIGHT.get(image.getexif().get(ORIENTATION))
            grey = _grey(image if turn is None else image.transpose(turn))
            if size is not None:
                grey = grey.resize((size, size), resampling)
            return np.asarray(grey, dtype=np.uint8)
    except FileNotFoundError as error:
        raise UserError(f"{source} is missing; `dvc repro` fetches the images again") from error
    except DECODE_ERRORS as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise  # it is not the image that is bad
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _grey(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit grey."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not finite")
        if not LEAST_TOP <= values.max() <= WHITE:
            raise ValueError(
                f"its values end at {values.max():g}, where white would be {WHITE}: bring them to "
                "8 bits, or to the whole range of 16"
            )
        return Image.fromarray(np.clip(values // 256, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("L")
    return image.convert("L")
