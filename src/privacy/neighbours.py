"""Nearest train images, in pixels or in features, and the ratio that tells copies from others.

The ratio divides the distance to the nearest train image by the distance to the nearest one of
another patient. It is near 0 for a copy and near 1 for an image that belongs to no patient. Blur
and low contrast shorten both distances alike, so they change the ratio less than the distances.
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
SHIFT = 2  # pixels each way; images that differ by such a shift count as the same
LARGEST_SIDE = 64  # pixels; larger images are downsampled first
REDUCTION = 2  # side in pixels of the squares whose means are compared
ROWS = 128  # images whose distances are in memory at once


class Space(Protocol):
    """Set of reference images, and a distance of other images to them."""

    def describe(self, images: Images) -> NDArray[Any]:
        """Return the representation of uint8 images (n, size, size) in the space, (n, ...)."""
        ...

    def distances(self, described: NDArray[Any]) -> Matrix:
        """Compute distances from described images to all references, (n, references)."""
        ...

    @property
    def spread(self) -> float:
        """Root of the references' total variance in the space."""
        ...

    def contract(self, factor: float) -> None:
        """Multiply the distances of the references from their mean by a factor."""
        ...


MakeSpace = Callable[[Images], Space]


class PixelSpace:
    """Space of grey values, invariant to brightness, contrast, small shifts and mirroring.

    Images are downsampled by a whole factor to at most ``LARGEST_SIDE`` pixels a side, then by
    ``REDUCTION``. They are standardized to mean 0 and length 1. The distance is the minimum over
    shifts by up to ``SHIFT`` pixels each way, of the image and of its mirror image. It lies between
    0 and 2.
    """

    def __init__(self, references: Images) -> None:
        parts = [
            _standardized(_cut(_reduced(references[start : start + ROWS]), SHIFT, SHIFT))
            for start in range(0, len(references), ROWS)
        ]
        self._references = np.concatenate(parts).T.copy()

    def describe(self, images: Images) -> Images:
        """Return the images themselves; ``distances`` downsamples them block by block."""
        return images

    def distances(self, images: Images) -> Matrix:
        """Compute distances from float32 products, with an error of about 1e-3 near 0."""
        small = _reduced(images)
        likeness = np.full((len(images), self._references.shape[1]), -1.0, dtype=np.float32)
        for version in (small, small[:, :, ::-1]):
            for down in range(2 * SHIFT + 1):
                for right in range(2 * SHIFT + 1):
                    moved = _standardized(_cut(version, down, right))
                    np.maximum(likeness, moved @ self._references, out=likeness)
        return np.sqrt(np.maximum(2 - 2 * likeness.astype(np.float64), 0))

    @property
    def spread(self) -> float:
        """Root of the total variance of the standardized references."""
        return _spread(self._references.T)

    def contract(self, factor: float) -> None:
        """Contract the references about their mean, and standardize them again."""
        self._references = _standardized(_contracted(self._references.T, factor)).T.copy()


class FeatureSpace:
    """Space of a network's features, with Euclidean distances."""

    def __init__(self, extract: Callable[[Images], NDArray[np.float32]], references: Images):
        self._extract = extract
        self._references = extract(references).astype(np.float64)

    def describe(self, images: Images) -> NDArray[np.float32]:
        """Return the features, of all images at once, since a network takes whole batches."""
        return self._extract(images)

    def distances(self, features: NDArray[np.float32]) -> Matrix:
        """Compute Euclidean distances to all references, (n, references)."""
        return np.sqrt(squared_distances(features.astype(np.float64), self._references))

    @property
    def spread(self) -> float:
        """Root of the features' total variance."""
        return _spread(self._references)

    def contract(self, factor: float) -> None:
        """Contract the features about their mean."""
        self._references = _contracted(self._references, factor)


@dataclass(frozen=True)
class Nearest:
    """Nearest train image of each of n images, with its distance and ratio."""

    index: Indices  # of the nearest train image, (n,)
    distance: Vector  # to the nearest train image, (n,)
    ratio: Vector  # of ``distance`` to the distance to another patient's nearest image, (n,)

    def __len__(self) -> int:
        return len(self.index)


def nearest_in(
    space: Space, images: Images, patients: Patients, own: Indices | None = None
) -> Nearest:
    """Find the nearest reference image of each image.

    Args:
        space: a space with the train images as references.
        images: uint8 (n, size, size).
        patients: the patients of the references, three or more.
        own: patient ids of the images if they are train images; the references of an image's own
            patient are left out.
    """
    parts = []
    for rows, distances in _in_blocks(space, images):
        if own is not None:
            distances[own[rows][:, None] == patients.ids[None, :]] = np.inf
        index = distances.argmin(axis=1)
        first = np.take_along_axis(distances, index[:, None], axis=1)[:, 0]
        distances[patients.ids[index][:, None] == patients.ids[None, :]] = np.inf
        second = distances.min(axis=1)
        # The ratio of an image that repeats images of two patients is 0, as for any copy.
        ratio = np.divide(first, second, out=np.zeros_like(first), where=second > 0)
        parts.append((index, first, ratio))
    index, distance, ratio = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Nearest(index, distance, ratio)


def least_distances(space: Space, images: Images) -> Vector:
    """Compute the distance of each image to its nearest reference, (n,)."""
    return np.concatenate([part.min(axis=1) for _, part in _in_blocks(space, images)])


def group_duplicates(space: Space, images: Images, max_distance: float) -> Indices:
    """Group images that repeat each other; the first of a group, in their order, represents it.

    Args:
        space: a space with the images as references.
        images: uint8 (n, size, size).
        max_distance: from an image to the first one of its group.

    Returns:
        the index of the first image of each image's group, (n,).
    """
    first = np.full(len(images), -1)
    for rows, distances in _in_blocks(space, images):
        for index, near in enumerate(distances <= max_distance, start=rows.start):
            if first[index] < 0:
                first[near & (first < 0)] = index
                first[index] = index  # whatever the rounding of its distance to itself
    return first


def _in_blocks(space: Space, images: Images) -> Iterator[tuple[slice, Matrix]]:
    """Yield distances of ``ROWS`` images at a time, which bounds the memory."""
    described = space.describe(images)
    for start in range(0, len(images), ROWS):
        rows = slice(start, start + ROWS)
        yield rows, space.distances(described[rows])


def _spread(rows: NDArray[Any]) -> float:
    """Compute the root of the total variance of rows."""
    return float(np.sqrt(rows.var(axis=0, dtype=np.float64).sum()))


def _contracted(rows: NDArray[Any], factor: float) -> NDArray[Any]:
    """Multiply the distances of rows from their mean by a factor."""
    mean = rows.mean(axis=0)
    return mean + rows.dtype.type(factor) * (rows - mean)


def _reduced(images: Images) -> NDArray[np.float32]:
    """Downsample images to at most ``LARGEST_SIDE`` pixels a side, by means of whole pixels."""
    side = images.shape[-1]
    factor = -(-side // LARGEST_SIDE)
    return _means(images.astype(np.float32), factor)


def _cut(images: NDArray[np.float32], down: int, right: int) -> NDArray[np.float32]:
    """Crop images by ``2 * SHIFT`` rows and columns in all, from an offset on, and downsample."""
    side = images.shape[-1] - 2 * SHIFT
    return _means(images[:, down : down + side, right : right + side], REDUCTION)


def _means(images: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Compute means of squares of ``factor`` pixels a side; a remainder at the edge is cropped."""
    count, height, width = images.shape
    rows, columns = height // factor, width // factor
    cropped = images[:, : rows * factor, : columns * factor]
    means: NDArray[np.float32] = cropped.reshape(count, rows, factor, columns, factor).mean((2, 4))
    return means


def _standardized(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Flatten images to rows of mean 0 and length 1; a constant image becomes 0."""
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-6 * rows.shape[1])
