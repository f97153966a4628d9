"""Image files of strangers: in which formats they are read, and how large they may be."""

import warnings
from pathlib import Path
from typing import IO

from PIL import Image

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
