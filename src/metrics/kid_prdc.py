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
from .mmd import Matrices, mean_gaussian_kernel

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Comparison:
    """A set of real and a set of generated features, with the matrices that all scores share.

    Memory grows with the square of the number of images.
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
        pair = Pair(
            self,
            np.arange(len(self.real)) if real is None else real,
            np.arange(len(self.fake)) if fake is None else fake,
        )
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
        """Compute three matrices; only one where both sets are the same, since it is large."""
        x = self.real.astype(np.float64) - centre
        if self.fake is self.real:
            one = of(x, x)
            return one, one, one
        y = self.fake.astype(np.float64) - centre
        return of(x, x), of(y, y), of(x, y)


@dataclass(frozen=True)
class Pair:
    """The images of a comparison at some indices, the argument of every metric."""

    whole: Comparison
    real: Indices  # (n,)
    fake: Indices  # (m,)

    def blocks(self, matrices: Matrices) -> Matrices:
        """Select the images' rows and columns: (n, n), (m, m) and (n, m)."""
        i, j = self.real, self.fake
        return (
            matrices[0][np.ix_(i, i)],
            matrices[1][np.ix_(j, j)],
            matrices[2][np.ix_(i, j)],
        )

    @cached_property
    def _squares(self) -> Matrices:
        return self.blocks(self.whole.squares)

    @cached_property
    def in_real_ball(self) -> Mask:
        """Whether each fake image lies in the ball of each real one, (n, m)."""
        real, _, cross = self._squares
        return cross <= _radii(real, self.whole.nearest_k)[:, None]

    @cached_property
    def in_fake_ball(self) -> Mask:
        """Whether each real image lies in the ball of each fake one, (n, m)."""
        _, fake, cross = self._squares
        return cross <= _radii(fake, self.whole.nearest_k)[None, :]


def frechet(pair: Pair) -> float:
    """Compute the Fréchet distance with ``frechet.frechet_distance``."""
    real, fake = pair.whole.real[pair.real], pair.whole.fake[pair.fake]
    return frechet_distance(FeatureSet(real), FeatureSet(fake))


def kid(pair: Pair) -> float:
    """Compute the kernel inception distance."""
    return mmd(*pair.blocks(pair.whole.kernels))


def gaussian_mmd(pair: Pair) -> float:
    """Compute the squared MMD with the Gaussian kernel of features and thumbnails."""
    return mmd(*pair.blocks(pair.whole.gaussian_kernels))


def precision(pair: Pair) -> float:
    """Compute the share of fake images that lie on the real manifold."""
    return float(pair.in_real_ball.any(axis=0).mean())


def recall(pair: Pair) -> float:
    """Compute the share of real images that lie on the fake manifold."""
    return float(pair.in_fake_ball.any(axis=1).mean())


def density(pair: Pair) -> float:
    """Compute the mean number of real balls that a fake image lies in, divided by k."""
    return float(pair.in_real_ball.sum(axis=0).mean() / pair.whole.nearest_k)


def coverage(pair: Pair) -> float:
    """Compute the share of real images whose ball holds a fake one."""
    return float(pair.in_real_ball.any(axis=1).mean())


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


def mmd(xx: Matrix, yy: Matrix, xy: Matrix) -> float:
    """Compute the unbiased squared MMD from kernel matrices (n, n), (m, m) and (n, m)."""
    n, m = xy.shape
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def _radii(squares: Matrix, k: int) -> Matrix:
    """Find the squared distance of each point to its k-th nearest other one, (n,)."""
    return np.partition(squares, k, axis=1)[:, k]  # the point itself is the nearest
