"""Grids of images, and grey PNG files."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GAP = 1  # pixels between images


def tile(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Arrange uint8 images (n, h, w) in rows of ``columns``; gaps and empty cells are black."""
    count, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), dtype=np.uint8)
    for index, image in enumerate(images):
        top = index // columns * (height + GAP)
        left = index % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode a grey image, uint8 (h, w), as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def read_png(path: Path) -> NDArray[np.uint8]:
    """Read a PNG file as a grey image, uint8 (h, w)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))
