"""The MMD with a Gaussian kernel, against its published formula, and without bias."""

import numpy as np
import pytest

from benchmarks.plain_evaluation import plain_mmd
from src.data.patients import Indices
from src.metrics.kid_prdc import Comparison
from src.metrics.thumbnails import thumbnails

REAL = np.random.default_rng(1).standard_normal((12, 6)) + 5
FAKE = np.random.default_rng(2).standard_normal((9, 6)) * 1.3 + 5.2
SMALL = REAL[:, ::2] ** 2, FAKE[:, ::2] ** 2  # another space


def test_the_mmd_is_that_of_the_published_formula() -> None:
    found = Comparison(REAL, FAKE, 1, SMALL).score("mmd")
    assert found == pytest.approx(plain_mmd([(REAL, FAKE), SMALL]), rel=1e-10)


def test_the_bandwidth_stays_that_of_the_whole_real_set() -> None:
    """So that the scores of halves differ by their images alone."""
    i, j = np.array([0, 3, 5, 8]), np.array([1, 2, 6])
    comparison = Comparison(REAL, FAKE, 1, SMALL)
    kernels = [part.matrix for part in comparison.gaussian_kernels]
    xx, yy, xy = kernels[0][np.ix_(i, i)], kernels[1][np.ix_(j, j)], kernels[2][np.ix_(i, j)]

    def mean_of_others(k: np.ndarray) -> float:
        return float(k[~np.eye(len(k), dtype=bool)].mean())

    expected = mean_of_others(xx) + mean_of_others(yy) - 2 * xy.mean()
    assert comparison.score("mmd", i, j) == pytest.approx(expected, rel=1e-12)
    assert kernels[0][0, 3] == pytest.approx(
        np.mean(
            [
                np.exp(-square / (2 * median))
                for square, median in (squares(REAL, 0, 3), squares(SMALL[0], 0, 3))
            ]
        )
    )


def squares(points: np.ndarray, i: int, j: int) -> tuple[float, float]:
    """The squared distance of two points, and the median of those of all pairs."""
    apart = np.square(points[:, None] - points[None]).sum(axis=2)
    return float(apart[i, j]), float(np.median(apart[np.triu_indices(len(points), 1)]))


@pytest.mark.parametrize("sizes", [(20, 20), (20, 7)])
def test_the_mmd_of_two_sets_of_one_distribution_is_0_in_the_mean(sizes: tuple[int, int]) -> None:
    """With a biased estimate, or the Fréchet distance, it would be above 0 in every draw."""
    rng = np.random.default_rng(3)
    pool = rng.standard_normal((4000, 30))
    n, m = sizes
    scores = []
    for _ in range(600):
        rows: Indices = rng.permutation(len(pool))[: n + m]
        x, y = pool[rows[:n]], pool[rows[n:]]
        scores.append(Comparison(x, y, 1, (x[:, :4], y[:, :4])).score("mmd"))
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    assert abs(np.mean(scores)) < 3 * error
    assert error < 0.001  # a biased estimate is 0.05 too high


def test_equal_images_have_an_mmd_of_0() -> None:
    same = np.full((6, 4), 0.3)
    assert Comparison(same, same.copy(), 1, (same, same.copy())).score("mmd") == 0


def test_thumbnails_are_means_of_areas() -> None:
    images = np.random.default_rng(4).integers(0, 256, (5, 16, 24), dtype=np.uint8)
    found = thumbnails(images, np.array([3, 1]))
    expected = images[[3, 1]].reshape(2, 8, 2, 8, 3).mean(axis=(2, 4)).reshape(2, 64) / 255
    np.testing.assert_allclose(found, expected, rtol=1e-5)
