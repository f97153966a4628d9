"""The Fréchet distance between two sets of features, exact in float64.

Heusel et al., 2017 (eq. 6): with means m and covariances S of two Gaussians,
``|m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))``.

With centred features X and Y (rows, over sqrt(n - 1)), ``S1 = X^T X`` and ``S2 = Y^T Y``, and the
non-zero eigenvalues of ``S1 S2`` are the squared singular values of ``X Y^T``: the last trace is
that matrix's nuclear norm. So no square root of a matrix is taken, and nothing breaks down where
covariances are singular, as they are with fewer samples than features.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Features = NDArray[np.float32] | NDArray[np.float64]


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
    def mean(self) -> NDArray[np.float64]:
        """Mean feature, (d,)."""
        return self.features.mean(axis=0, dtype=np.float64)

    @cached_property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float(np.square(self.root).sum())

    @cached_property
    def root(self) -> NDArray[np.float64]:
        """A matrix R of at most d rows whose ``R^T R`` is the unbiased covariance."""
        count, width = self.features.shape
        centred = (self.features.astype(np.float64) - self.mean) / np.sqrt(count - 1)
        if count <= width:
            return centred
        triangle: NDArray[np.float64] = scipy.linalg.qr(centred, mode="r")[0][:width]
        return triangle


def frechet_distance(first: FeatureSet, second: FeatureSet) -> float:
    """The Fréchet distance of the Gaussians fitted to two sets of equal width, >= 0.

    Raises:
        ValueError: if the widths differ.
    """
    if first.features.shape[1] != second.features.shape[1]:
        raise ValueError("the sets have features of different widths")
    gap = float(np.square(first.mean - second.mean).sum())
    cross = float(scipy.linalg.svdvals(first.root @ second.root.T).sum())
    return max(gap + first.trace + second.trace - 2 * cross, 0.0)
