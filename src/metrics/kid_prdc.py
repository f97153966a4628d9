"""Scores of two sets of images: MMD, Fréchet distance, KID, precision, recall, density, coverage.

KID is the unbiased squared maximum mean discrepancy with the kernel ``(x.y / d + 1)^3``
(Bińkowski et al., 2018); MMD is the same with the kernel of ``metrics.mmd``. Precision and recall
are those of Kynkäänniemi et al., 2019, density and coverage those of Naeem et al., 2020: a set's
manifold is the union of balls around its points that reach to their k-th nearest neighbours in the
set. Their names stand in ``config.registry``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..config.registry import METRICS, load
from ..data.patients import Indices
from .frechet import Features, FeatureSet, frechet_distance
from .mmd import Matrices, mean_gaussian_kernel, mmd, row_blocks

Matrix = NDArray[np.float64]
Counts = NDArray[np.int64]
Blocks = tuple[Iterable[Matrix], Iterable[Matrix], Iterable[Matrix]]


class Comparison:
    """A set of real and a set of generated features, with the matrices that all scores share.

    Scores of the whole sets compute the matrices block by block. Scores of their images at some
    indices keep whole matrices, whose memory grows with the square of the number of images.
    """

    def __init__(
        self,
        real: Features,
        fake: Features,
        nearest_k: int,
        thumbnails: tuple[Features, Features] | None = None,
    ) -> None:
        """Compare float features (n, d) and (m, d), with balls to the k-th nearest neighbour.

        ``thumbnails`` of both sets, as ``thumbnails.thumbnails`` makes them, are for MMD alone.

        Raises:
            ValueError: for different widths, fewer than two of a set, or features not finite.
        """
        for part in (real, fake):
            FeatureSet(part)
        if real.shape[1] != fake.shape[1]:
            raise ValueError("the sets have features of different widths")
        self.real, self.fake, self.nearest_k = real, fake, nearest_k
        self._thumbnails = thumbnails

    def available(self, images: int) -> list[str]:
        """Return the metrics that so many images of each set allow."""
        return [
            name
            for name, metric in METRICS.items()
            if images > (self.nearest_k if metric.needs_neighbours else 1)
            and not (metric.needs_thumbnails and self._thumbnails is None)
        ]

    def score(self, metric: str, real: Indices | None = None, fake: Indices | None = None) -> float:
        """Compute one score of the sets, or of their images at some indices."""
        return self.scores([metric], real, fake)[metric]

    def scores(
        self, metrics: Iterable[str], real: Indices | None = None, fake: Indices | None = None
    ) -> dict[str, float]:
        """Compute several scores of the same images, which share their distances."""
        indices = None
        if real is not None or fake is not None:
            indices = (
                np.arange(len(self.real)) if real is None else real,
                np.arange(len(self.fake)) if fake is None else fake,
            )
        pair = Pair(self, indices)
        return {metric: float(load(METRICS[metric])(pair)) for metric in metrics}

    @cached_property
    def kernels(self) -> Matrices:
        """KID's kernel of real with real, fake with fake, and real with fake features."""
        width = self.real.shape[1]
        return self._matrices(lambda x, y: np.power(x @ y.T / width + 1, 3), 0.0)

    @cached_property
    def gaussian_kernels(self) -> Matrices:
        """Mean of the Gaussian kernels of features and of thumbnails, as ``kernels``.

        Raises:
            ValueError: if there are no thumbnails.
        """
        if self._thumbnails is None:
            raise ValueError("MMD needs thumbnails of the images")
        small = Comparison(*self._thumbnails, self.nearest_k)
        return mean_gaussian_kernel([self.squares, small.squares])

    @cached_property
    def squares(self) -> Matrices:
        """Squared distances of real to real, fake to fake, and real to fake features."""
        # Values near 0 lose less to rounding.
        return self._matrices(squared_distances, self.real.mean(axis=0, dtype=np.float64))

    def _matrices(self, of: Callable[[Matrix, Matrix], Matrix], centre: Matrix | float) -> Matrices:
        """Define three matrices; only one where both sets are the same, since it is large."""
        x = self.real.astype(np.float64) - centre
        if self.fake is self.real:
            one = row_blocks(of, x, x)
            return one, one, one
        y = self.fake.astype(np.float64) - centre
        return row_blocks(of, x, x), row_blocks(of, y, y), row_blocks(of, x, y)


@dataclass(frozen=True)
class Balls:
    """Numbers of images in each other's balls, see the module's first lines."""

    real_of_fake: Counts  # real balls that hold each fake image, (m,)
    fake_in_real: Counts  # fake images in the ball of each real one, (n,)
    fake_of_real: Counts  # fake balls that hold each real image, (n,)


@dataclass(frozen=True)
class Pair:
    """The images of a comparison at some indices, or all, the argument of every metric."""

    whole: Comparison
    indices: tuple[Indices, Indices] | None  # of real images (n,) and of fake ones (m,)

    @property
    def features(self) -> tuple[Features, Features]:
        """Features of the real and of the fake images, (n, d) and (m, d)."""
        if self.indices is None:
            return self.whole.real, self.whole.fake
        return self.whole.real[self.indices[0]], self.whole.fake[self.indices[1]]

    def blocks(self, matrices: Matrices) -> Blocks:
        """Select the images' rows and columns: (n, n), (m, m) and (n, m), by blocks of rows."""
        if self.indices is None:
            return matrices
        i, j = self.indices
        return (
            [matrices[0].matrix[np.ix_(i, i)]],
            [matrices[1].matrix[np.ix_(j, j)]],
            [matrices[2].matrix[np.ix_(i, j)]],
        )

    @cached_property
    def balls(self) -> Balls:
        """How many balls hold each image."""
        real, fake, cross = self.blocks(self.whole.squares)
        real_radii, fake_radii = (_radii(part, self.whole.nearest_k) for part in (real, fake))
        real_of_fake = np.zeros(len(fake_radii), dtype=np.int64)
        fake_in_real, fake_of_real = [], []
        start = 0
        for block in cross:
            in_real = block <= real_radii[start : start + len(block), None]
            real_of_fake += in_real.sum(axis=0)
            fake_in_real.append(in_real.sum(axis=1))
            fake_of_real.append((block <= fake_radii).sum(axis=1))
            start += len(block)
        return Balls(real_of_fake, np.concatenate(fake_in_real), np.concatenate(fake_of_real))


def frechet(pair: Pair) -> float:
    """Compute the Fréchet distance with ``frechet.frechet_distance``."""
    real, fake = pair.features
    return frechet_distance(FeatureSet(real), FeatureSet(fake))


def kid(pair: Pair) -> float:
    """Compute the kernel inception distance."""
    return mmd(*pair.blocks(pair.whole.kernels))


def gaussian_mmd(pair: Pair) -> float:
    """Compute the squared MMD with the Gaussian kernel of features and thumbnails."""
    return mmd(*pair.blocks(pair.whole.gaussian_kernels))


def precision(pair: Pair) -> float:
    """Compute the share of fake images that lie on the real manifold."""
    return float((pair.balls.real_of_fake > 0).mean())


def recall(pair: Pair) -> float:
    """Compute the share of real images that lie on the fake manifold."""
    return float((pair.balls.fake_of_real > 0).mean())


def density(pair: Pair) -> float:
    """Compute the mean number of real balls that a fake image lies in, divided by k."""
    return float(pair.balls.real_of_fake.mean() / pair.whole.nearest_k)


def coverage(pair: Pair) -> float:
    """Compute the share of real images whose ball holds a fake one."""
    return float((pair.balls.fake_in_real > 0).mean())


def squared_distances(first: Matrix, second: Matrix) -> Matrix:
    """Compute squared Euclidean distances of float64 rows (n, d) and (m, d), (n, m).

    Inner products are many times faster than differences. A distance within the rounding error of 0
    becomes 0, as that of equal rows.
    """
    x, y = (np.square(part).sum(axis=1) for part in (first, second))
    scale = x[:, None] + y[None, :]
    distances = scale - 2 * (first @ second.T)
    rounding = 4 * np.finfo(np.float64).eps * max(first.shape[1], 8)
    return np.where(distances <= rounding * scale, 0.0, distances)


def _radii(squares: Iterable[Matrix], k: int) -> Matrix:
    """Find the squared distance of each point to its k-th nearest other one, (n,)."""
    # The point itself is the nearest.
    return np.concatenate([np.partition(block, k, axis=1)[:, k] for block in squares])
