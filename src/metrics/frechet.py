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
SMALL = 512  # samples; threads that share so small a product wait longer than they compute
EXTRAPOLATED = 8  # subset sizes that the extrapolation rests on
SMALLEST_SHARE = 0.25  # the smallest of them, as a share of the whole
REPEATS = 6  # subsets of each size
CURVED = 0.02  # share of the distance that the two halves of the fit may differ by
UNSURE = 0.1  # share of it above which the fit's own standard error leaves no answer


_LIBRARIES = ThreadpoolController()  # those of linear algebra that NumPy and SciPy have loaded


class Gaussian(Protocol):
    """A Gaussian with a mean (d,), and a covariance (d, d) that is ``R^T R`` for its root R."""

    @property
    def mean(self) -> Matrix:
        """(d,)."""
        ...

    @property
    def root(self) -> Matrix:
        """Any R whose ``R^T R`` is the covariance, (rows, d)."""
        ...

    @property
    def small_root(self) -> Matrix:
        """Such an R of at most d rows."""
        ...

    @property
    def covariance(self) -> Matrix:
        """(d, d)."""
        ...

    @property
    def trace(self) -> float:
        """Of the covariance."""
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
        """The centred features over sqrt(n - 1), (n, d)."""
        return (self.features.astype(np.float64) - self.mean) / np.sqrt(len(self.features) - 1)

    @cached_property
    def small_root(self) -> Matrix:
        """The root, or its triangle where it has more rows than columns, (min(n, d), d)."""
        count, width = self.features.shape
        if count <= width:
            return self.root
        triangle: Matrix = scipy.linalg.qr(self.root, mode="r", check_finite=False)[0][:width]
        return triangle

    @cached_property
    def covariance(self) -> Matrix:
        """The unbiased covariance, (d, d)."""
        return self.root.T @ self.root

    @cached_property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float(np.square(self.root).sum())


@dataclass(frozen=True)
class Moments:
    """A mean (d,) and a covariance (d, d), as saved statistics have them."""

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
        """A square root by eigenvalues, of which negative ones are rounding errors, (d, d)."""
        values, vectors = scipy.linalg.eigh(self.covariance)
        return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T

    @property
    def small_root(self) -> Matrix:
        """The root."""
        return self.root

    @property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float(np.trace(self.covariance))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """The Fréchet distance of two Gaussians of equal width, >= 0; of sets, those fitted to them.

    Raises:
        ValueError: if the widths differ.
    """
    width = first.mean.size
    if width != second.mean.size:
        raise ValueError("the sets have features of different widths")
    fewest = min(_rows(first), _rows(second))
    with _LIBRARIES.limit(limits=1 if fewest <= SMALL else None, user_api="blas"):
        gap = float(np.square(first.mean - second.mean).sum())
        return max(gap + first.trace + second.trace - 2 * _trace_of_root(first, second), 0.0)


def _trace_of_root(first: Gaussian, second: Gaussian) -> float:
    """``tr((S1 S2)^(1/2))``, by the cheaper of the two exact forms."""
    if min(_rows(first), _rows(second)) < first.mean.size:
        cross = first.root @ second.root.T
        return float(scipy.linalg.svdvals(cross, check_finite=False).sum())
    # An eigenvalue problem of as many rows as there are features, however many images.
    inner = first.small_root @ second.covariance @ first.small_root.T
    values = scipy.linalg.eigvalsh((inner + inner.T) / 2, check_finite=False)
    return float(np.sqrt(np.clip(values, 0, None)).sum())


def _rows(gaussian: Gaussian) -> int:
    """Rows of its root."""
    return len(gaussian.features) if isinstance(gaussian, FeatureSet) else gaussian.mean.size


def extrapolated_distance(
    first: Features,
    second: Features,
    whose: tuple[Patients, Patients],
    rng: np.random.Generator,
) -> float | None:
    """The distance at infinitely many samples, where that can be told; else None.

    Chong and Forsyth, 2020: the bias of the distance falls as 1/n, so a line through the distances
    of subsets against 1/n meets the distance of the whole distributions at 0. With few samples for
    the number of features the bias is no such line: lines through the smaller and through the
    larger half of the subsets then meet 0 at different places, and there is no answer. Where images
    of one patient are alike, only with the number of patients does the bias fall so, and subsets
    are of whole patients.

    Args:
        first: a set of features, (n, d).
        second: another one, (m, d); the subsets of both shrink by the same shares.
        whose: the patients of both sets' images.
        rng: draws the subsets, without repetition.
    """
    if min(len(first), len(second)) * SMALLEST_SHARE <= first.shape[1]:
        return None  # covariances of the smallest subsets would be singular
    shares = 1 / np.linspace(1, 1 / SMALLEST_SHARE, EXTRAPOLATED)
    inverse, found = [], []
    for share in shares:
        for _ in range(1 if share == 1 else REPEATS):
            subsets = [
                FeatureSet(part[patients.draw(round(share * len(part)), rng)])
                for part, patients in zip((first, second), whose, strict=True)
            ]
            inverse.append(1 / share)
            found.append(frechet_distance(subsets[0], subsets[1]))
    x, y = np.array(inverse), np.array(found)
    smaller = x >= np.median(np.unique(x))
    whole, error = _at_zero(x, y)
    coarse, coarse_error = _at_zero(x[smaller], y[smaller])
    fine, fine_error = _at_zero(x[~smaller], y[~smaller])
    by_chance = 3 * float(np.hypot(coarse_error, fine_error))
    if abs(coarse - fine) > max(CURVED * y[0], by_chance) or error > UNSURE * y[0]:
        return None
    return max(whole, 0.0)


def _at_zero(x: Matrix, y: Matrix) -> tuple[float, float]:
    """Where a line through the points meets x = 0, and the standard error of that."""
    columns = np.stack([np.ones_like(x), x], axis=1)
    found, residuals, *_ = np.linalg.lstsq(columns, y)
    variance = residuals[0] / (len(x) - 2) * np.linalg.inv(columns.T @ columns)[0, 0]
    return float(found[0]), float(np.sqrt(variance))
