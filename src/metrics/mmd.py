"""Gaussian kernel of the squared maximum mean discrepancy, the distance that steers the search.

The unbiased MMD (Gretton et al., 2012, eq. 3) of two sets of one distribution is 0 in the mean,
whatever their sizes. So it does not reward a smaller spread, as the Fréchet distance does with
fewer images than features. With a Gaussian kernel the MMD of two different distributions is above
0; Jayasumana et al., 2024, propose it for images.

A network may be blind to what matters, such as exposure. So the kernel is the mean of two: one of
the network's features, and one of thumbnails of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
MIN_BANDWIDTH = 1e-200  # where all real images are equal
# Entries of a block, 64 MiB. A matrix of no more is one block, so that its sums round as one.
BLOCK_ENTRIES = 1 << 23


@dataclass(frozen=True)
class RowBlocks:
    """A large matrix by blocks of its rows, which are computed whenever it is iterated."""

    blocks: Callable[[], Iterator[Matrix]]

    def __iter__(self) -> Iterator[Matrix]:
        return self.blocks()

    @cached_property
    def matrix(self) -> Matrix:
        """The whole matrix, kept in memory."""
        return np.concatenate(list(self))


# Real and real (n, n), fake and fake (m, m), real and fake (n, m).
Matrices = tuple[RowBlocks, RowBlocks, RowBlocks]


def row_blocks(of: Callable[[Matrix, Matrix], Matrix], first: Matrix, second: Matrix) -> RowBlocks:
    """Define the matrix (n, m) of a function of the rows of (n, d) and (m, d)."""

    def blocks() -> Iterator[Matrix]:
        rows = max(BLOCK_ENTRIES // len(second), 1)
        for start in range(0, len(first), rows):
            yield of(first[start : start + rows], second)

    return RowBlocks(blocks)


def mmd(xx: Iterable[Matrix], yy: Iterable[Matrix], xy: Iterable[Matrix]) -> float:
    """Compute the unbiased squared MMD from kernel matrices, each as blocks of its rows."""
    total, entries = 0.0, 0
    for block in xy:
        total, entries = total + block.sum(), entries + block.size
    return float(_mean_between(xx) + _mean_between(yy) - 2 * (total / entries))


def _mean_between(kernel: Iterable[Matrix]) -> float:
    """Compute the mean of a kernel (n, n) of different points."""
    total, n = 0.0, 0
    for block in kernel:
        total, n = total + (block.sum() - np.trace(block, offset=n)), n + len(block)
    return total / (n * (n - 1))


def mean_gaussian_kernel(spaces: Sequence[Matrices]) -> Matrices:
    """Define the mean of the Gaussian kernels of several spaces.

    ``k(x, y) = mean over spaces s of exp(-|x_s - y_s|^2 / (2 h_s))``, where ``h_s`` is the median
    of the squared distances of the real images to each other.

    Args:
        spaces: squared distances in each space.
    """
    bandwidths = [_median_between(real) for real, _, _ in spaces]

    def kernel(squares: Sequence[RowBlocks]) -> RowBlocks:
        return RowBlocks(
            lambda: (_mean_of_gaussians(parts, bandwidths) for parts in zip(*squares, strict=True))
        )

    reals, fakes, crosses = zip(*spaces, strict=True)
    real = kernel(reals)
    if all(first is second for first, second in zip(reals, fakes, strict=True)):
        return real, real, real  # a set with itself; the matrices are large
    return real, kernel(fakes), kernel(crosses)


def _median_between(squares: Iterable[Matrix]) -> float:
    """Return the median of the squared distances (n, n) of different points."""
    parts, n = [], 0
    for block in squares:  # each pair once
        parts.append(block[~np.tri(len(block), block.shape[1], n, dtype=bool)])
        n += len(block)
    return max(float(np.median(np.concatenate(parts), overwrite_input=True)), MIN_BANDWIDTH)


def _mean_of_gaussians(squares: Sequence[Matrix], bandwidths: Sequence[float]) -> Matrix:
    """Compute the mean of Gaussians of squared distances, one matrix and bandwidth a space."""
    total = np.zeros_like(squares[0])
    for part, bandwidth in zip(squares, bandwidths, strict=True):
        exponents = part / (-2 * bandwidth)
        total += np.exp(exponents, out=exponents)
    return np.divide(total, len(squares), out=total)
