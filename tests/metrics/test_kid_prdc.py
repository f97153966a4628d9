import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from benchmarks.plain_evaluation import plain_balls, plain_kid
from src.config.registry import METRICS
from src.metrics import mmd
from src.metrics.kid_prdc import Comparison, squared_distances

K = 3
REAL = np.random.default_rng(1).standard_normal((40, 6)) + 5
FAKE = np.random.default_rng(2).standard_normal((30, 6)) * 1.3 + 5.2
SMALL = REAL[:, ::2] ** 2  # in place of thumbnails


def test_kid_is_the_published_sum() -> None:
    found = Comparison(REAL, FAKE, K).score("kid")
    assert found == pytest.approx(plain_kid(REAL, FAKE), rel=1e-6)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_precision_recall_density_and_coverage_are_the_published_ones(k: int) -> None:
    comparison = Comparison(REAL, FAKE, k)
    for metric, expected in plain_balls(REAL, FAKE, k).items():
        assert comparison.score(metric) == pytest.approx(expected, rel=1e-6), metric


def test_the_score_of_parts_is_that_of_sets_of_these_images() -> None:
    i, j = np.array([3, 8, 1, 20, 30, 11]), np.array([0, 5, 9, 13, 29])
    parts = Comparison(REAL[i], FAKE[j], K)
    whole = Comparison(REAL, FAKE, K)
    for metric in whole.available(len(j)):
        assert whole.score(metric, i, j) == pytest.approx(parts.score(metric), rel=1e-9), metric


@pytest.mark.parametrize("entries", [1, 95, 40 * 39])  # rows one by one, some, all but one
def test_blocks_of_rows_give_the_scores_of_one_block(
    entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = REAL, FAKE, K, (SMALL, FAKE[:, ::2] ** 2)
    expected = Comparison(*sets).scores(METRICS)
    monkeypatch.setattr(mmd, "BLOCK_ENTRIES", entries)
    blocks = Comparison(*sets)
    assert len(list(blocks.squares[0])) > 1
    assert blocks.scores(METRICS) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(blocks.kernels[0].matrix, (REAL @ REAL.T / 6 + 1) ** 3)


def test_equal_sets_have_distance_0_and_cover_each_other() -> None:
    comparison = Comparison(REAL, REAL.copy(), K)
    assert comparison.score("frechet") == pytest.approx(0, abs=1e-9)
    assert comparison.score("precision") == comparison.score("recall") == 1
    assert comparison.score("coverage") == 1


def test_a_set_with_itself_is_compared_once_and_as_with_a_copy() -> None:
    itself = Comparison(REAL, REAL, K, (SMALL, SMALL))
    copy = Comparison(REAL, REAL.copy(), K, (SMALL, SMALL.copy()))
    i, j = np.arange(20), np.arange(20, 40)
    for metric in METRICS:
        expected = copy.score(metric, i, j)
        assert itself.score(metric, i, j) == pytest.approx(expected, rel=1e-9), metric
    assert (
        len({id(part) for part in (*itself.kernels, *itself.squares, *itself.gaussian_kernels)})
        == 3
    )


def test_constant_features_cover_each_other_too() -> None:
    comparison = Comparison(np.full((8, 3), 0.1), np.full((9, 3), 0.1), K)
    assert comparison.score("kid") == pytest.approx(0, abs=1e-12)
    for metric in ("precision", "recall", "coverage"):
        assert comparison.score(metric) == 1


def test_sets_far_apart_share_nothing() -> None:
    comparison = Comparison(REAL, FAKE + 100, K)
    for metric in ("precision", "recall", "density", "coverage"):
        assert comparison.score(metric) == 0


def test_kid_is_unbiased_where_the_frechet_distance_is_not() -> None:
    """Of two sets of one distribution KID is 0 on average, below it about half of the time."""
    found = [
        Comparison(x[:20], x[20:], K).score("kid")
        for x in (np.random.default_rng(seed).standard_normal((40, 5)) for seed in range(300))
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)
    assert 0.3 < np.mean(np.array(found) < 0) < 0.75


def test_distances_keep_their_digits_far_from_the_origin() -> None:
    x = np.random.default_rng(3).standard_normal((20, 7))
    found = squared_distances(x, x[5:])
    np.testing.assert_allclose(found, cdist(x, x[5:]) ** 2, rtol=1e-10, atol=1e-12)
    assert found[7, 2] == 0


def test_small_sets_have_the_scores_that_they_are_enough_for() -> None:
    alone = Comparison(REAL, FAKE, 5)
    assert alone.available(1) == []
    assert alone.available(5) == ["frechet", "kid"]
    assert alone.available(6) == [name for name in METRICS if name != "mmd"]
    with pytest.raises(ValueError, match="MMD needs thumbnails"):
        alone.score("mmd")
    assert Comparison(REAL, FAKE, 5, (REAL, FAKE)).available(6) == list(METRICS)


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3))),
        (np.zeros((4, 3)), np.full((4, 3), np.nan)),
        (np.zeros((4, 3)), np.zeros((4, 2))),
    ],
)
def test_what_cannot_be_compared_is_refused(
    real: NDArray[np.float64], fake: NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match="features"):
        Comparison(real, fake, K)
