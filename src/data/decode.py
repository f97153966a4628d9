"""Decoder of image files: allowed formats, size limits, conversion to 8-bit grey."""

import warnings
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from ..common.errors import DISK_ERRORS, UserError

MAX_PIXELS = 100_000_000  # of one image; more counts as a decompression bomb
# Pillow warns above its limit and refuses twice as much; ``open_image`` refuses all above it.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Pillow knows more formats, but some of them start programs, as EPS does.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
# Errors that Pillow raises for damaged files and for files that are not images.
DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, MemoryError)


def open_image(source: Path | IO[bytes]) -> Image.Image:
    """Open an image file and read only its header.

    Raises:
        ValueError: if it has more than ``MAX_PIXELS`` pixels.
        Exception: one of ``DECODE_ERRORS``, if it is not an image in one of ``FORMATS``.
    """
    try:
        image = Image.open(source, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{image.width} x {image.height} pixels are too many")
    return image


# A JPEG may be decoded at a half, quarter or eighth of its size; twice the target keeps what the
# resize filter needs.
DRAFT_MARGIN = 2
WHITE = 65535  # in an image of 16 bits
MIN_WHITE = 4096  # an image of 16 bits whose maximum is lower was scaled to 12 bits or fewer
ORIENTATION = ExifTags.Base.Orientation
TRANSPOSE_BY_ORIENTATION: dict[object, Image.Transpose] = {  # by EXIF orientation
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
    """Decode an image as grey uint8, (h, w) or resized to (size, size).

    The EXIF orientation is applied. Transparent pixels are blended over black. Images of more
    than 8 bits keep the upper 8 of 16 bits.

    Args:
        source: an image file or its stream.
        min_side: minimum width and height, in pixels.
        size: width and height of the result; None keeps those of the image.
        resampling: filter for the resize; Pillow's default is bicubic.

    Raises:
        ValueError: if the image cannot be decoded, is too small or large, or has more than 8
            bits but does not use the 16-bit scale.
        UserError: if the file is missing.
        OSError: if the disk or its permissions fail.
    """
    try:
        with open_image(source) as image:
            if min(image.size) < min_side:
                raise ValueError(
                    f"{image.width} x {image.height} is smaller than {min_side} pixels"
                )
            if size is not None:
                image.draft("L", (DRAFT_MARGIN * size, DRAFT_MARGIN * size))
            image.load()  # this rotates a TIFF and removes its orientation
            method = TRANSPOSE_BY_ORIENTATION.get(image.getexif().get(ORIENTATION))
            grey = _to_grey(image if method is None else image.transpose(method))
            if size is not None:
                grey = grey.resize((size, size), resampling)
            return np.asarray(grey, dtype=np.uint8)
    except FileNotFoundError as error:
        raise UserError(f"{source} is missing; `dvc repro` fetches the images again") from error
    except DECODE_ERRORS as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise  # the disk failed, not the image
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _to_grey(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit grey."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not finite")
        if not MIN_WHITE <= values.max() <= WHITE:
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
