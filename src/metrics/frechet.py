"""The Fréchet distance between two sets of features, exact in float64.

Heusel et al., 2017 (eq. 6): with means m and covariances S of two Gaussians,
``|m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))``.

With centred features X and Y (rows, over sqrt(n - 1)), ``S1 = X^T X`` and ``S2 = Y^T Y``, and the
non-zero eigenvalues of ``S1 S2`` are the squared singular values of ``X Y^T``: the last trace is
that matrix's nuclear norm. So no square root of a matrix is taken, and nothing breaks down where
covariances are singular, as they are with fewer samples than features. Where both sets have more
samples than features, the eigenvalues of ``R S2 R^T`` are as many and cost less, with the triangle
R for which ``R^T R = S1``.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from ..data.patients import Patients

Features = NDArray[np.float32] | NDArray[np.float64]
Matrix = NDArray[np.float64]
SINGLE_THREAD_SAMPLES = 512  # up to so many, several threads would be slower than one
SUBSET_SIZES = 8  # number of subset sizes of the extrapolation
MIN_SUBSET_SHARE = 0.25  # size of the smallest subset, as a share of the set
SUBSETS_PER_SIZE = 6
MAX_CURVATURE = 0.02  # difference of the fits to small and large subsets, share of the distance
MAX_RELATIVE_ERROR = 0.1  # standard error of the extrapolation, share of the distance

_LIBRARIES = ThreadpoolController()  # of the linear algebra in NumPy and SciPy


class Gaussian(Protocol):
    """A Gaussian with a mean (d,), and a covariance (d, d) that is ``R^T R`` for its root R."""

    @property
    def mean(self) -> Matrix:
        """Mean feature, (d,)."""
        ...

    @property
    def root(self) -> Matrix:
        """Matrix R for which ``R^T R`` is the covariance, (rows, d)."""
        ...

    @property
    def small_root(self) -> Matrix:
        """Root of at most d rows, (rows, d)."""
        ...

    @property
    def covariance(self) -> Matrix:
        """Covariance of the features, (d, d)."""
        ...

    @property
    def trace(self) -> float:
        """Trace of the covariance."""
        ...


@dataclass(frozen=True)
class FeatureSet:
    """A set of features, float of shape (n, d), n >= 2, with its statistics computed once."""

    features: Features

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) < 2:
            raise ValueError(f"features must be (n >= 2, d), not {self.features.shape}")
        if not np.isfinite(self.features).all():
            raise ValueError("features must be finite")

    @cached_property
    def mean(self) -> Matrix:
        """Mean feature, (d,)."""
        return self.features.mean(axis=0, dtype=np.float64)

    @cached_property
    def root(self) -> Matrix:
        """Centred features over sqrt(n - 1), (n, d)."""
        return (self.features.astype(np.float64) - self.mean) / np.sqrt(len(self.features) - 1)

    @cached_property
    def small_root(self) -> Matrix:
        """Root, or its triangle if it has more rows than columns, (min(n, d), d)."""
        count, width = self.features.shape
        if count <= width:
            return self.root
        triangle: Matrix = scipy.linalg.qr(self.root, mode="r", check_finite=False)[0][:width]
        return triangle

    @cached_property
    def covariance(self) -> Matrix:
        """Unbiased covariance, (d, d)."""
        return self.root.T @ self.root

    @cached_property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float(np.square(self.root).sum())


@dataclass(frozen=True)
class Moments:
    """A mean (d,) and a covariance (d, d), as in files of statistics."""

    mean: Matrix
    covariance: Matrix

    def __post_init__(self) -> None:
        width = self.mean.size
        if self.mean.ndim != 1 or width == 0 or self.covariance.shape != (width, width):
            shapes = f"{self.mean.shape} and {self.covariance.shape}"
            raise ValueError(f"a mean and a covariance must be (d,) and (d, d), not {shapes}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise ValueError("a mean and a covariance must be finite")
        scale = float(np.abs(self.covariance).max())
        if np.abs(self.covariance - self.covariance.T).max() > 1e-6 * scale:
            raise ValueError("a covariance must be symmetric")

    @cached_property
    def root(self) -> Matrix:
        """Square root by eigenvalues, (d, d); negative ones are rounding errors and become 0."""
        values, vectors = scipy.linalg.eigh(self.covariance)
        return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T

    @property
    def small_root(self) -> Matrix:
        """Root of d rows, (d, d)."""
        return self.root

    @property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float(np.trace(self.covariance))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Compute the Fréchet distance of two Gaussians with equally many features, >= 0.

    A set of features stands for the Gaussian of its mean and covariance.

    Raises:
        ValueError: if the widths differ.
    """
    width = first.mean.size
    if width != second.mean.size:
        raise ValueError("the sets have features of different widths")
    rows = min(_rows(first), _rows(second))
    with _LIBRARIES.limit(limits=1 if rows <= SINGLE_THREAD_SAMPLES else None, user_api="blas"):
        gap = _squared_gap(first, second)
        return max(gap + first.trace + second.trace - 2 * _trace_of_root(first, second), 0.0)


def frechet_parts(first: Gaussian, second: Gaussian) -> tuple[float, float]:
    """Compute the two parts of the Fréchet distance: of the means and of the covariances.

    The first is ``|m1 - m2|^2``, the second what the covariances add, both >= 0. Up to rounding
    ``frechet_distance`` is their sum.

    Raises:
        ValueError: if the widths differ.
    """
    distance = frechet_distance(first, second)
    means = _squared_gap(first, second)
    return means, max(distance - means, 0.0)


def _squared_gap(first: Gaussian, second: Gaussian) -> float:
    """Compute the squared distance of the means."""
    return float(np.square(first.mean - second.mean).sum())


def _trace_of_root(first: Gaussian, second: Gaussian) -> float:
    """Compute ``tr((S1 S2)^(1/2))`` by the cheaper of the two exact forms."""
    if min(_rows(first), _rows(second)) < first.mean.size:
        cross = first.root @ second.root.T
        return float(scipy.linalg.svdvals(cross, check_finite=False).sum())
    # An eigenvalue problem of as many rows as there are features, however many images.
    inner = first.small_root @ second.covariance @ first.small_root.T
    values = scipy.linalg.eigvalsh((inner + inner.T) / 2, check_finite=False)
    return float(np.sqrt(np.clip(values, 0, None)).sum())


def _rows(gaussian: Gaussian) -> int:
    """Return the number of rows of the Gaussian's root."""
    return len(gaussian.features) if isinstance(gaussian, FeatureSet) else gaussian.mean.size


def extrapolated_distance(
    first: Features,
    second: Features,
    patients: tuple[Patients, Patients],
    rng: np.random.Generator,
) -> float | None:
    """Extrapolate the Fréchet distance to infinitely many samples.

    Chong and Forsyth, 2020: the bias of the distance falls as 1/n. So a line through the distances
    of subsets against 1/n has the distance of the distributions as its intercept. With too few
    samples for the number of features, the bias is not linear in 1/n. The lines through the small
    and through the large subsets then have different intercepts, and the result is None. Images of
    one patient are alike, so the bias falls with the number of patients, and subsets are of whole
    patients.

    Args:
        first: a set of features, (n, d).
        second: another one, (m, d); subsets of both sets have the same shares.
        patients: the patients of both sets' images.
        rng: generator that draws the subsets, without repetition.

    Returns:
        the distance, >= 0; None if the sets are too small for an extrapolation.
    """
    if min(len(first), len(second)) * MIN_SUBSET_SHARE <= first.shape[1]:
        return None  # covariances of the smallest subsets would be singular
    # Compute the distances of random subsets.
    shares = 1 / np.linspace(1, 1 / MIN_SUBSET_SHARE, SUBSET_SIZES)
    inverse, distances = [], []
    for share in shares:
        for _ in range(1 if share == 1 else SUBSETS_PER_SIZE):
            subsets = [
                FeatureSet(features[part.draw(round(share * len(features)), rng)])
                for features, part in zip((first, second), patients, strict=True)
            ]
            inverse.append(1 / share)
            distances.append(frechet_distance(subsets[0], subsets[1]))
    # Fit lines to all, to the small and to the large subsets.
    x, y = np.array(inverse), np.array(distances)
    is_small = x >= np.median(np.unique(x))
    limit, error = _intercept(x, y)
    small, small_error = _intercept(x[is_small], y[is_small])
    large, large_error = _intercept(x[~is_small], y[~is_small])
    # Refuse a curved or an uncertain fit.
    by_chance = 3 * float(np.hypot(small_error, large_error))
    is_curved = abs(small - large) > max(MAX_CURVATURE * y[0], by_chance)
    if is_curved or error > MAX_RELATIVE_ERROR * y[0]:
        return None
    return max(limit, 0.0)


def _intercept(x: Matrix, y: Matrix) -> tuple[float, float]:
    """Fit a line to points (n,) and return its value at x = 0 with its standard error."""
    columns = np.stack([np.ones_like(x), x], axis=1)
    line, residuals, *_ = np.linalg.lstsq(columns, y)
    variance = residuals[0] / (len(x) - 2) * np.linalg.inv(columns.T @ columns)[0, 0]
    return float(line[0]), float(np.sqrt(variance))
