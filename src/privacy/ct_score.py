"""The C_T test of data copying (Meehan et al., 2020)."""

import numpy as np
import scipy.stats
from scipy.cluster.vq import kmeans2

from ..common.rng import Stream, numpy_stream
from ..data.patients import Indices
from .neighbours import Images, Nearest

CELL = 50  # held-out images per cell of the C_T test, about
SMALLEST_CELL = 10  # images of each of the two sets in a cell that counts


def cluster_cells(images: Images, held_out: int, seed: int) -> Indices:
    """Assign each train image to a cell, by k-means of coarse grey values."""
    count = max(1, min(held_out // CELL, len(images) // CELL))
    step = max(1, images.shape[-1] // 8)
    coarse = images[:, step // 2 :: step, step // 2 :: step].reshape(len(images), -1)
    rng = numpy_stream(Stream.COPY_TEST_CELLS, seed, count)
    cells = kmeans2(coarse.astype(np.float64), count, minit="++", rng=rng)[1]
    return np.asarray(cells, dtype=np.int64)


def c_t(held_out: Nearest, generated: Nearest, cells: Indices) -> float | None:
    """Compute Meehan's C_T, the Mann-Whitney z of distances to train images, averaged over cells.

    Args:
        held_out: nearest train images of other patients' real images.
        generated: nearest train images of generated images.
        cells: the cell of each train image; an image belongs to its nearest train image's cell.

    Returns:
        the mean z, weighted by the held-out images of each cell. Below about -3, generated images
        lie nearer to train images than held-out images do. None if no cell has enough images of
        both sets.
    """
    total = weights = 0.0
    for cell in np.unique(cells):
        real = held_out.distance[cells[held_out.index] == cell]
        fake = generated.distance[cells[generated.index] == cell]
        n, m = len(real), len(fake)
        if min(n, m) < SMALLEST_CELL:
            continue
        u = float(scipy.stats.mannwhitneyu(fake, real).statistic)
        z = (u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
        total, weights = total + n * float(z), weights + n
    return total / weights if weights else None
