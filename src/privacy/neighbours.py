"""Which train image lies nearest to an image, in pixels or in features, and how near others are.

The ratio of the distance to the nearest train image to that to the nearest one of another patient
tells a copy: it is near 0 for one and near 1 for an image that belongs to nobody. Blur and low
contrast shorten both distances alike, so unlike the distances it does not take them for nearness.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.patients import Indices, Patients
from ..metrics.kid_prdc import squared_distances

Images = NDArray[np.uint8]
Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
SHIFT = 2  # pixels each way by which an image may be moved and still is the same one
LARGEST_SIDE = 64  # pixels; larger images are reduced first
REDUCTION = 2  # pixels a side whose mean is compared
ROWS = 128  # images whose distances are held at once


class Space(Protocol):
    """A set of reference images, and how far others are from them."""

    def describe(self, images: Images) -> NDArray[Any]:
        """What stands for uint8 images (n, size, size) where distances are measured, (n, ...)."""
        ...

    def distances(self, described: NDArray[Any]) -> Matrix:
        """From images that are described so to each reference image, (n, references)."""
        ...


MakeSpace = Callable[[Images], Space]


class PixelSpace:
    """Grey values, whatever an image's brightness and contrast, small shifts and its mirror image.

    Images are reduced by a whole factor to at most ``LARGEST_SIDE`` pixels a side, compared at a
    ``REDUCTION``-th of that, with their mean taken away and their length made 1. The distance is
    the least over shifts by up to ``SHIFT`` of the reduced pixels each way, of the image and of its
    mirror image, so it lies between 0 and 2.
    """

    def __init__(self, references: Images) -> None:
        parts = [
            _standardized(_cut(_reduced(references[start : start + ROWS]), SHIFT, SHIFT))
            for start in range(0, len(references), ROWS)
        ]
        self._references = np.concatenate(parts).T.copy()

    def describe(self, images: Images) -> Images:
        """The images themselves, which are reduced some at a time."""
        return images

    def distances(self, images: Images) -> Matrix:
        """As ``Space``, in float32 products and so with an error of about 1e-3 near 0."""
        small = _reduced(images)
        likeness = np.full((len(images), self._references.shape[1]), -1.0, dtype=np.float32)
        for version in (small, small[:, :, ::-1]):
            for down in range(2 * SHIFT + 1):
                for right in range(2 * SHIFT + 1):
                    moved = _standardized(_cut(version, down, right))
                    np.maximum(likeness, moved @ self._references, out=likeness)
        return np.sqrt(np.maximum(2 - 2 * likeness.astype(np.float64), 0))


class FeatureSpace:
    """Euclidean distances of a network's features."""

    def __init__(self, extract: Callable[[Images], NDArray[np.float32]], references: Images):
        self._extract = extract
        self._references = extract(references).astype(np.float64)

    def describe(self, images: Images) -> NDArray[np.float32]:
        """Their features, of all at once, since a network takes whole batches."""
        return self._extract(images)

    def distances(self, features: NDArray[np.float32]) -> Matrix:
        """As ``Space``."""
        return np.sqrt(squared_distances(features.astype(np.float64), self._references))


@dataclass(frozen=True)
class Nearest:
    """For each of n images, its nearest train image and how near that is."""

    place: Indices  # of the nearest train image, (n,)
    distance: Vector  # to it, (n,)
    ratio: Vector  # of that distance to the one to the nearest train image of another patient, (n,)

    def __len__(self) -> int:
        return len(self.place)


def nearest_in(
    space: Space, images: Images, patients: Patients, own: Indices | None = None
) -> Nearest:
    """The nearest reference image of each image.

    Args:
        space: whose references are the train images.
        images: uint8 (n, size, size).
        patients: of the references, three or more.
        own: where the images are train images themselves, the number of each one's patient, whose
            references are left out.
    """
    parts = []
    for rows, distances in _in_blocks(space, images):
        if own is not None:
            distances[own[rows][:, None] == patients.ids[None, :]] = np.inf
        place = distances.argmin(axis=1)
        first = np.take_along_axis(distances, place[:, None], axis=1)[:, 0]
        distances[patients.ids[place][:, None] == patients.ids[None, :]] = np.inf
        second = distances.min(axis=1)
        # Where an image repeats two patients' ones it is a copy all the same.
        ratio = np.divide(first, second, out=np.zeros_like(first), where=second > 0)
        parts.append((place, first, ratio))
    place, distance, ratio = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Nearest(place, distance, ratio)


def least_distances(space: Space, images: Images) -> Vector:
    """From each image to the nearest reference, (n,)."""
    return np.concatenate([part.min(axis=1) for _, part in _in_blocks(space, images)])


def _in_blocks(space: Space, images: Images) -> Iterator[tuple[slice, Matrix]]:
    """The distances of some images at a time, so that memory does not grow with them."""
    described = space.describe(images)
    for start in range(0, len(images), ROWS):
        rows = slice(start, start + ROWS)
        yield rows, space.distances(described[rows])


def _reduced(images: Images) -> NDArray[np.float32]:
    """Images of at most ``LARGEST_SIDE`` pixels a side, by means of whole pixels."""
    side = images.shape[-1]
    factor = -(-side // LARGEST_SIDE)
    return _means(images.astype(np.float32), factor)


def _cut(images: NDArray[np.float32], down: int, right: int) -> NDArray[np.float32]:
    """What is left of images without ``2 * SHIFT`` rows and columns, from a place on."""
    side = images.shape[-1] - 2 * SHIFT
    return _means(images[:, down : down + side, right : right + side], REDUCTION)


def _means(images: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The means of squares of ``factor`` pixels a side; a remainder at the edge is left out."""
    count, height, width = images.shape
    rows, columns = height // factor, width // factor
    whole = images[:, : rows * factor, : columns * factor]
    means: NDArray[np.float32] = whole.reshape(count, rows, factor, columns, factor).mean((2, 4))
    return means


def _standardized(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images as rows of mean 0 and length 1; a constant one is 0."""
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-6 * rows.shape[1])
