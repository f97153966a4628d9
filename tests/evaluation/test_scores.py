import numpy as np
import pytest
from numpy.typing import NDArray

from src.evaluation.comparison import Comparison
from src.evaluation.draws import Patients
from src.evaluation.scores import JudgedSet, class_scores, score_sets


def gaussian(n: int, seed: int, centre: float = 0.0, d: int = 6) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((n, d)) + centre


def strangers(n: int, seed: int, centre: float = 0.0) -> JudgedSet:
    return JudgedSet.of_strangers(gaussian(n, seed, centre))


def test_a_perfect_generator_scores_the_floor() -> None:
    for score in score_sets(strangers(200, 1), strangers(200, 2), 5, 20, 0):
        assert score.floor is not None
        assert score.floor.n == 99  # two draws without the same image, whichever
        assert score.floor.score == pytest.approx(score.floor.floor, rel=0.25, abs=0.05)


def test_the_floor_is_of_other_patients() -> None:
    """Ten images of each patient that are nearly the same: with them the floor would be 0."""
    centres = gaussian(30, 1)
    images = np.repeat(centres, 10, axis=0) + 0.01 * gaussian(300, 2)
    fake = strangers(300, 3)
    known = JudgedSet(images, Patients.named([str(number // 10) for number in range(300)]))
    unknown = JudgedSet.of_strangers(images)
    floors = [next(iter(score_sets(real, fake, 5, 10, 0))).floor for real in (known, unknown)]
    assert floors[0] is not None
    assert floors[1] is not None
    assert floors[0].floor > 3 * floors[1].floor


def test_intervals_hold_the_expected_score_as_often_as_they_say() -> None:
    """Against scores of many more pairs of sets of two Gaussians, halfway apart."""

    def sets(seed: int) -> tuple[JudgedSet, JudgedSet]:
        return strangers(60, seed), strangers(50, 10_000 + seed, 0.6)

    metrics = ("frechet", "kid", "precision", "density", "coverage")
    many = [Comparison(x.features, y.features, 5) for x, y in map(sets, range(1000, 1200))]
    expected = {metric: np.mean([pair.score(metric) for pair in many]) for metric in metrics}
    held = dict.fromkeys(metrics, 0)
    for seed in range(60):
        for score in score_sets(*sets(seed), 5, 24, seed):
            if score.metric in held:
                assert score.interval is not None
                low, high = score.interval.low, score.interval.high
                held[score.metric] += low <= expected[score.metric] <= high
    for metric in metrics:
        assert held[metric] >= 0.83 * 60, (metric, held)  # of 0.95, by three deviations less


@pytest.mark.parametrize(("n", "metrics"), [(2, 2), (3, 2), (5, 2), (6, 6)])
def test_any_size_from_two_images_up(n: int, metrics: int) -> None:
    scores = score_sets(strangers(n, 1), strangers(n, 2), 5, 10, 0)
    assert len(scores) == metrics
    assert (scores[0].interval is None) == (n < 4)
    assert (scores[0].floor is None) == (n < 5)


def test_the_same_seed_gives_the_same_scores_whatever_else_is_scored() -> None:
    first, again = (score_sets(strangers(30, 1), strangers(30, 2), k, 10, 0) for k in (3, 3))
    assert first == again
    few = score_sets(strangers(30, 1), strangers(30, 2), 29, 10, 0)  # KID and Fréchet alone
    assert first[:2] == few[:2]


def test_each_class_stands_beside_the_other_one_and_its_train_split() -> None:
    test = {"NORMAL": strangers(80, 1), "PNEUMONIA": strangers(70, 2, 2.0)}
    train = {"NORMAL": strangers(80, 3), "PNEUMONIA": strangers(70, 4, 2.0)}
    fake = {"NORMAL": strangers(80, 5), "PNEUMONIA": strangers(70, 6, 1.0)}
    table = class_scores(test, train, fake, 5, 10, 0).set_index(["class", "metric"])
    assert len(table) == 12
    good, halfway = table.loc[("NORMAL", "frechet")], table.loc[("PNEUMONIA", "frechet")]
    assert good["excess"] == pytest.approx(0, abs=0.05)
    # A quarter of the squared distance: the generated ones lie halfway between the classes.
    assert halfway["excess"] == pytest.approx(0.25, abs=0.07)
    assert good["train_test"] == pytest.approx(
        Comparison(test["NORMAL"].features, train["NORMAL"].features, 5).score("frechet")
    )
    assert np.isnan(table.loc[("NORMAL", "recall"), "excess"])
    assert table.loc[("NORMAL", "coverage"), "n_real"] == 80
