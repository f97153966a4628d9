"""Gaussian kernel of the squared maximum mean discrepancy, the distance that steers the search.

The unbiased MMD (Gretton et al., 2012, eq. 3) of two sets of one distribution is 0 in the mean,
whatever their sizes. So it does not reward a smaller spread, as the Fréchet distance does with
fewer images than features. With a Gaussian kernel the MMD of two different distributions is above
0; Jayasumana et al., 2024, propose it for images.

A network may be blind to what matters, such as exposure. So the kernel is the mean of two: one of
the network's features, and one of thumbnails of the images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Matrices = tuple[Matrix, Matrix, Matrix]  # real and real (n, n), fake and fake, real and fake
MIN_BANDWIDTH = 1e-200  # where all real images are equal


def mean_gaussian_kernel(spaces: Sequence[Matrices]) -> Matrices:
    """Compute the mean of the Gaussian kernels of several spaces.

    ``k(x, y) = mean over spaces s of exp(-|x_s - y_s|^2 / (2 h_s))``, where ``h_s`` is the median
    of the squared distances of the real images to each other.

    Args:
        spaces: squared distances in each space.
    """
    bandwidths = [_median_between(real) for real, _, _ in spaces]
    reals, fakes, crosses = zip(*spaces, strict=True)
    real = _mean_of_gaussians(reals, bandwidths)
    if all(first is second for first, second in zip(reals, fakes, strict=True)):
        return real, real, real  # a set with itself; the matrices are large
    return real, _mean_of_gaussians(fakes, bandwidths), _mean_of_gaussians(crosses, bandwidths)


def _median_between(squares: Matrix) -> float:
    """Return the median of the squared distances (n, n) of different points."""
    between = squares[~np.eye(len(squares), dtype=bool)]
    return max(float(np.median(between, overwrite_input=True)), MIN_BANDWIDTH)


def _mean_of_gaussians(squares: Sequence[Matrix], bandwidths: Sequence[float]) -> Matrix:
    """Compute the mean of Gaussians of squared distances, one matrix and bandwidth a space."""
    total = np.zeros_like(squares[0])
    for part, bandwidth in zip(squares, bandwidths, strict=True):
        exponents = part / (-2 * bandwidth)
        total += np.exp(exponents, out=exponents)
    return np.divide(total, len(squares), out=total)
