"""Two sets of features compared in every way: Fréchet distance, KID, precision and recall.

KID is the unbiased squared maximum mean discrepancy with the kernel ``(x.y / d + 1)^3``
(Bińkowski et al., 2018). Precision and recall are those of Kynkäänniemi et al., 2019, density and
coverage those of Naeem et al., 2020: a set's manifold is made of balls around its points that
reach to their k-th nearest neighbours in the set.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..data.patients import Indices
from .frechet import Features, FeatureSet, frechet_distance

Metric = Literal["frechet", "kid", "precision", "recall", "density", "coverage"]
METRICS: tuple[Metric, ...] = get_args(Metric)
DISTANCES: tuple[Metric, ...] = ("frechet", "kid")  # 0 for equal sets; the others are shares
METRIC_NAMES: dict[Metric, str] = {
    "frechet": "Fréchet distance",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}

BOUNDS: dict[Metric, tuple[float, float]] = {
    "frechet": (0, np.inf),
    "kid": (-np.inf, np.inf),  # unbiased, so it may fall below 0
    "precision": (0, 1),
    "recall": (0, 1),
    "density": (0, np.inf),
    "coverage": (0, 1),
}

Matrix = NDArray[np.float64]


def available(images: int, neighbours: int) -> tuple[Metric, ...]:
    """The scores for which sets of so many images are large enough."""
    return METRICS if images > neighbours else DISTANCES if images > 1 else ()


class Comparison:
    """A set of real and a set of generated features, and what scores of their parts share.

    Memory grows with the square of the images.
    """

    def __init__(self, real: Features, fake: Features, neighbours: int) -> None:
        """Take float features, (n, d) and (m, d); ``neighbours`` is the k of the balls.

        Raises:
            ValueError: for different widths, fewer than two of a set, or features not finite.
        """
        for part in (real, fake):
            FeatureSet(part)
        if real.shape[1] != fake.shape[1]:
            raise ValueError("the sets have features of different widths")
        self._real, self._fake, self._k = real, fake, neighbours

    def score(
        self, metric: Metric, real: Indices | None = None, fake: Indices | None = None
    ) -> float:
        """Compute one score of the sets, or of their images at some indices."""
        return self.scores([metric], real, fake)[metric]

    def scores(
        self,
        metrics: Sequence[Metric],
        real: Indices | None = None,
        fake: Indices | None = None,
    ) -> dict[Metric, float]:
        """Compute several scores of the same images, which share their distances."""
        i = np.arange(len(self._real)) if real is None else real
        j = np.arange(len(self._fake)) if fake is None else fake
        found: dict[Metric, float] = {}
        if "frechet" in metrics:
            sets = FeatureSet(self._real[i]), FeatureSet(self._fake[j])
            found["frechet"] = frechet_distance(*sets)
        if "kid" in metrics:
            k = self._kernels
            found["kid"] = mmd(k[0][np.ix_(i, i)], k[1][np.ix_(j, j)], k[2][np.ix_(i, j)])
        balls = [metric for metric in metrics if metric not in DISTANCES]
        if balls:
            d = self._squares
            cross = d[2][np.ix_(i, j)]
            # Whether a fake image lies in a real one's ball, and a real one in a fake one's.
            in_real = cross <= _radii(d[0][np.ix_(i, i)], self._k)[:, None]
            in_fake = cross <= _radii(d[1][np.ix_(j, j)], self._k)[None, :]
            shares = {
                "precision": in_real.any(axis=0).mean(),
                "recall": in_fake.any(axis=1).mean(),
                "density": in_real.sum(axis=0).mean() / self._k,
                "coverage": in_real.any(axis=1).mean(),
            }
            found |= {metric: float(shares[metric]) for metric in balls}
        return found

    @cached_property
    def _kernels(self) -> tuple[Matrix, Matrix, Matrix]:
        """Of the real with the real, the fake with the fake, and the real with the fake."""
        width = self._real.shape[1]
        return self._matrices(lambda x, y: np.power(x @ y.T / width + 1, 3), 0.0)

    @cached_property
    def _squares(self) -> tuple[Matrix, Matrix, Matrix]:
        # Nearer to 0 less is lost to rounding.
        return self._matrices(squared_distances, self._real.mean(axis=0, dtype=np.float64))

    def _matrices(
        self, of: Callable[[Matrix, Matrix], Matrix], centre: Matrix | float
    ) -> tuple[Matrix, Matrix, Matrix]:
        """All that compares two images; only once if both sets are one, since it is large."""
        x = self._real.astype(np.float64) - centre
        if self._fake is self._real:
            one = of(x, x)
            return one, one, one
        y = self._fake.astype(np.float64) - centre
        return of(x, x), of(y, y), of(x, y)


def squared_distances(first: Matrix, second: Matrix) -> Matrix:
    """Squared Euclidean distances of float64 rows (n, d) and (m, d), (n, m).

    By inner products, which is many times faster than by differences; what is left of equal rows'
    distance by rounding becomes 0.
    """
    x, y = (np.square(part).sum(axis=1) for part in (first, second))
    scale = x[:, None] + y[None, :]
    found = scale - 2 * (first @ second.T)
    rounding = 4 * np.finfo(np.float64).eps * max(first.shape[1], 8)
    return np.where(found <= rounding * scale, 0.0, found)


def mmd(xx: Matrix, yy: Matrix, xy: Matrix) -> float:
    """The unbiased squared maximum mean discrepancy from kernel matrices (n, n), (m, m), (n, m)."""
    n, m = xy.shape
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def _radii(squares: Matrix, k: int) -> Matrix:
    """The squared distance of each point to its k-th nearest other one, (n,)."""
    return np.partition(squares, k, axis=1)[:, k]  # the point itself is the nearest
