"""Perturbations that might disguise the copy of a train image.

The copy test must detect copies with each of them; see ``copy_test``.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = NDArray[np.uint8]
Perturbation = Callable[[Images, np.random.Generator], Images]
LARGEST_SHIFT = 1 / 32  # of the side, two pixels or more
BRIGHTNESS = 0.05  # share of the grey values
JPEG_QUALITY = 75


def _shifted(images: Images, rng: np.random.Generator) -> Images:
    """Shift images by up to 1/32 of the side along one or both axes; the edge is repeated.

    At 64 pixels that is two pixels, as far as ``PixelSpace`` sees a shifted image as the same.
    """
    side = images.shape[-1]
    largest = max(2, int(side * LARGEST_SHIFT))
    steps = range(-largest, largest + 1)
    shifts = [(down, right) for down in steps for right in steps if (down, right) != (0, 0)]
    padded = np.pad(images, ((0, 0), *[(largest, largest)] * 2), mode="edge")
    moved = np.empty_like(images)
    for index, shift in enumerate(rng.integers(len(shifts), size=len(images))):
        top, left = (largest + step for step in shifts[shift])
        moved[index] = padded[index, top : top + side, left : left + side]
    return moved


def _brightened(images: Images, rng: np.random.Generator) -> Images:
    """Make images 5 % brighter or darker."""
    sign = rng.choice([-1, 1], size=(len(images), 1, 1))
    return np.rint(images * (1 + BRIGHTNESS * sign)).clip(0, 255).astype(np.uint8)


def _compressed(images: Images, rng: np.random.Generator) -> Images:
    """Compress images with JPEG at quality 75."""
    compressed = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=JPEG_QUALITY)
        compressed.append(np.asarray(Image.open(buffer)))
    return np.stack(compressed)


def _mirrored(images: Images, rng: np.random.Generator) -> Images:
    """Exchange left and right."""
    return images[:, :, ::-1].copy()


# Each takes uint8 images (n, size, size) and a random generator, and returns as many images.
PERTURBATIONS: dict[str, Perturbation] = {
    "shifted": _shifted,
    "brightened": _brightened,
    "compressed": _compressed,
    "mirrored": _mirrored,
}
