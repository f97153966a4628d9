"""What someone might do to a train image so that its copy does not look like one.

A test of copying must see through each of these; see ``privacy``.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = NDArray[np.uint8]
Disturbance = Callable[[Images, np.random.Generator], Images]
LARGEST_SHIFT = 2  # pixels
BRIGHTNESS = 0.05  # share of the grey values
JPEG_QUALITY = 75


def _shifted(images: Images, rng: np.random.Generator) -> Images:
    """Moved by one or two pixels down, up, right, left or both, the edge repeated."""
    steps = range(-LARGEST_SHIFT, LARGEST_SHIFT + 1)
    ways = [(down, right) for down in steps for right in steps if (down, right) != (0, 0)]
    padded = np.pad(images, ((0, 0), *[(LARGEST_SHIFT, LARGEST_SHIFT)] * 2), mode="edge")
    side = images.shape[-1]
    moved = np.empty_like(images)
    for index, way in enumerate(rng.integers(len(ways), size=len(images))):
        top, left = (LARGEST_SHIFT + step for step in ways[way])
        moved[index] = padded[index, top : top + side, left : left + side]
    return moved


def _brightened(images: Images, rng: np.random.Generator) -> Images:
    """5 % brighter or darker."""
    sign = rng.choice([-1, 1], size=(len(images), 1, 1))
    return np.rint(images * (1 + BRIGHTNESS * sign)).clip(0, 255).astype(np.uint8)


def _compressed(images: Images, rng: np.random.Generator) -> Images:
    """Through JPEG at quality 75."""
    done = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=JPEG_QUALITY)
        done.append(np.asarray(Image.open(buffer)))
    return np.stack(done)


def _mirrored(images: Images, rng: np.random.Generator) -> Images:
    """Left and right exchanged."""
    return images[:, :, ::-1].copy()


# Each takes uint8 images (n, size, size) and a source of chance, and gives as many.
DISTURBANCES: dict[str, Disturbance] = {
    "shifted": _shifted,
    "brightened": _brightened,
    "compressed": _compressed,
    "mirrored": _mirrored,
}
