from dataclasses import astuple, replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from src.common.rng import Stream, numpy_stream
from src.data.patients import Patients
from src.metrics import scores as scores_module
from src.metrics.kid_prdc import Comparison
from src.metrics.scores import FeatureSample, class_scores, compare, score_sets


def gaussian(n: int, seed: int, centre: float = 0.0, d: int = 6) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((n, d)) + centre


def strangers(n: int, seed: int, centre: float = 0.0) -> FeatureSample:
    return FeatureSample.of_singletons(gaussian(n, seed, centre))


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
    known = FeatureSample(images, Patients.from_names([str(number // 10) for number in range(300)]))
    unknown = FeatureSample.of_singletons(images)
    floors = [next(iter(score_sets(real, fake, 5, 10, 0))).floor for real in (known, unknown)]
    assert floors[0] is not None
    assert floors[1] is not None
    assert floors[0].floor > 3 * floors[1].floor


def test_intervals_hold_the_expected_score_as_often_as_they_say() -> None:
    """Against scores of many more pairs of sets of two Gaussians, halfway apart."""

    def sets(seed: int) -> tuple[FeatureSample, FeatureSample]:
        parts = strangers(60, seed), strangers(50, 10_000 + seed, 0.6)
        first, second = (replace(part, thumbnails=part.features[:, :2]) for part in parts)
        return first, second

    metrics = ("mmd", "frechet", "kid", "precision", "density", "coverage")
    many = [compare(x, y, 5) for x, y in map(sets, range(1000, 1200))]
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


def test_draws_of_a_large_set_are_from_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores stay those of all images, and the intervals about as wide as from all images."""
    metrics = ("frechet", "kid", "precision", "density", "coverage")
    errors: dict[str, list[list[float]]] = {metric: [] for metric in metrics}
    for seed in range(8):
        sets = strangers(320, seed), strangers(300, 100 + seed, 0.7)
        both = []
        for limit in (2000, 80):
            monkeypatch.setattr(scores_module, "MAX_DRAWN_IMAGES", limit)
            both.append({score.metric: score for score in score_sets(*sets, 5, 64, seed)})
        of_all, of_part = both
        for metric in of_all:
            assert of_part[metric].value == of_all[metric].value
            assert of_part[metric].infinite == of_all[metric].infinite
            assert "drawn_from" not in of_all[metric].as_dict()
            assert of_part[metric].as_dict()["drawn_from"] == 80
            assert of_part[metric].as_dict()["floor_n"] == 39
        for metric in metrics:
            pair = of_all[metric].interval, of_part[metric].interval
            errors[metric].append([part.standard_error for part in pair if part])
    for metric, found in errors.items():
        ratio = np.divide(*np.mean(found, axis=0)[::-1])
        assert 0.8 < ratio < 1.6, (metric, ratio)  # of 2, if the size did not count


def test_a_part_of_a_large_set_has_whole_patients_and_their_thumbnails() -> None:
    features = gaussian(60, 1)
    whole = FeatureSample(features, Patients(np.arange(60) // 3), features[:, :2])
    part = whole.at_most(30, np.random.default_rng(0))
    assert whole.at_most(60, np.random.default_rng(0)) is whole
    assert (len(part), part.patients.count) == (30, 10)
    assert part.thumbnails is not None
    np.testing.assert_array_equal(part.features[:, :2], part.thumbnails)


@pytest.mark.parametrize(("n", "metrics"), [(2, 2), (3, 2), (5, 2), (6, 6)])
def test_any_size_from_two_images_up(n: int, metrics: int) -> None:
    scores = score_sets(strangers(n, 1), strangers(n, 2), 5, 10, 0)
    assert len(scores) == metrics
    assert (scores[0].interval is None) == (n < 4)
    assert (scores[0].floor is None) == (n < 5)


def test_images_of_few_patients_have_no_interval() -> None:
    images = gaussian(40, 1)
    for patients, told in ((3, False), (4, True)):
        owners = Patients.from_names([str(number % patients) for number in range(40)])
        (first, *_) = score_sets(FeatureSample(images, owners), strangers(40, 2), 5, 10, 0)
        assert (first.interval is not None) == told


def test_images_that_are_mostly_of_one_patient_have_no_interval() -> None:
    """That patient would be in nearly every half, so halves would tell of too little spread."""
    images = gaussian(40, 1)
    for most, told in ((11, False), (10, True)):
        owners = Patients(np.maximum(np.arange(40) - most + 1, 0))
        for sets in (
            (FeatureSample(images, owners), strangers(40, 2)),
            (strangers(40, 2), FeatureSample(images, owners)),
        ):
            (first, *_) = score_sets(*sets, 5, 10, 0)
            assert (first.interval is not None) == told
            assert first.floor is not None


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
    # The squared distance of the classes' means is 24; draws of the floor's size add a bias.
    for label in ("NORMAL", "PNEUMONIA"):
        assert table.loc[(label, "frechet"), "other_class"] == pytest.approx(24, rel=0.1)
    assert np.isnan(table.loc[("NORMAL", "recall"), "other_class"])


def test_a_score_is_that_of_the_whole_sets_and_its_floor_that_of_a_hundred_pairs_of_draws() -> None:
    real, fake = strangers(60, 1), strangers(50, 2, 0.5)
    between = Comparison(real.features, fake.features, 5)
    within = Comparison(real.features, real.features, 5)
    for score in score_sets(real, fake, 5, 10, 7):
        assert score.value == between.score(score.metric)
        assert (score.n_real, score.n_fake) == (60, 50)
        assert score.floor is not None
        rng = numpy_stream(Stream.FLOOR, 7, 29)
        drawn = numpy_stream(Stream.FLOOR_GENERATED, 7, 29)
        floors, scores = [], []
        for _ in range(100):
            first, second = real.patients.disjoint_pair(29, rng)
            floors.append(within.score(score.metric, first, second))
            scores.append(between.score(score.metric, first, drawn.permutation(50)[:29]))
        apart = np.std(np.subtract(scores, floors), ddof=1)
        expected = (29, np.mean(floors), np.std(floors, ddof=1), np.mean(scores), apart)
        assert astuple(score.floor) == pytest.approx(expected, rel=1e-12)


def test_the_floor_of_one_size_is_the_same_for_every_generated_set() -> None:
    real = strangers(60, 1)
    floors = [
        {score.metric: score.floor for score in score_sets(real, fake, 5, 10, 7)}
        for fake in (strangers(50, 2), strangers(60, 3, 0.5), strangers(33, 4))
    ]
    for metric in floors[0]:
        found = [part[metric] for part in floors]
        assert len({(floor.n, floor.floor, floor.spread) for floor in found if floor}) == 1
        assert len({floor.score for floor in found if floor}) == 3


def test_the_excess_is_of_draws_of_one_size() -> None:
    test = {"NORMAL": strangers(80, 1), "PNEUMONIA": strangers(70, 2, 0.7)}
    train = {"NORMAL": strangers(80, 3), "PNEUMONIA": strangers(70, 4, 0.7)}
    fake = {"NORMAL": strangers(80, 5, 0.2), "PNEUMONIA": strangers(70, 6, 0.3)}
    classes = Comparison(test["NORMAL"].features, test["PNEUMONIA"].features, 5)
    for row in class_scores(test, train, fake, 5, 4, 7).to_dict("records"):
        if row["metric"] in ("frechet", "kid"):
            n = int(row["floor_n"])
            rng = numpy_stream(Stream.REFERENCE, 7, n)
            drawn = [[test[label].patients.draw(n, rng) for label in test] for _ in range(100)]
            other = np.mean([classes.score(row["metric"], *parts) for parts in drawn])
            assert row["other_class"] == pytest.approx(other, rel=1e-12)
            above = row["score_at_floor_n"] - row["floor"]
            assert row["excess"] == pytest.approx(above / (other - row["floor"]), rel=1e-12)
            of_train = [parts[row["class"]] for parts in (test, train)]
            rng = numpy_stream(Stream.REFERENCE, 7, n)
            drawn = [[part.patients.draw(n, rng) for part in of_train] for _ in range(100)]
            apart = Comparison(of_train[0].features, of_train[1].features, 5)
            expected = np.mean([apart.score(row["metric"], *parts) for parts in drawn])
            assert row["train_test_at_floor_n"] == pytest.approx(expected, rel=1e-12)


def test_there_is_no_excess_where_the_classes_are_no_further_apart_than_the_floor() -> None:
    same = np.ones((40, 3), dtype=np.float32)
    alike = {label: FeatureSample.of_singletons(same) for label in ("NORMAL", "PNEUMONIA")}
    table = class_scores(alike, alike, alike, 5, 4, 0).set_index("metric")
    assert table.loc["frechet", "other_class"].eq(0).all()
    assert table.loc["frechet", "excess"].isna().all()


@pytest.mark.long
def test_intervals_hold_the_expected_excess_as_often_as_they_say() -> None:
    """The expected excess at the floor's size is the mean of many independent tables."""
    rows = []
    for seed in range(60):
        first, second = strangers(40, seed), strangers(40, 1000 + seed, 1.5)
        test = {"NORMAL": first, "PNEUMONIA": second}
        fake = {label: strangers(40, 2000 + seed, 0.7) for label in test}
        table = class_scores(test, test, fake, 40, 10, seed)  # too few for neighbours
        rows += table[table["class"] == "NORMAL"].to_dict("records")
    table = pd.DataFrame(rows)
    for metric, part in table.groupby("metric"):
        expected = part["excess"].mean()
        held = part["excess_low"].le(expected) & part["excess_high"].ge(expected)
        assert held.mean() >= 0.83, metric  # of 0.95, by three deviations less
        width = (part["excess_high"] - part["excess_low"]).mean()
        assert width < 6 * part["excess"].std(), metric  # of 4, and too wide near the floor


def test_the_table_holds_what_is_known_of_each_score() -> None:
    test = {"NORMAL": strangers(90, 1), "PNEUMONIA": strangers(90, 2, 2.0)}
    train = {"NORMAL": strangers(80, 3), "PNEUMONIA": strangers(3, 4, 2.0)}
    fake = {"NORMAL": strangers(80, 5, 0.4), "PNEUMONIA": strangers(3, 6, 1.0)}
    table = class_scores(test, train, fake, 5, 10, 7)
    pd.testing.assert_frame_equal(table, class_scores(test, train, fake, 5, 10, 7))
    assert list(table.columns) == [
        *("class", "metric", "value", "n_real", "n_fake", "standard_error", "low", "high"),
        *("floor_n", "floor", "floor_spread", "score_at_floor_n", "train_test"),
        *("train_test_at_floor_n", "other_class"),
        *("excess", "excess_low", "excess_high", "infinite"),
        *("means_part", "covariances_part"),
    ]
    rows = table.set_index(["class", "metric"])
    found = {(row["class"], row["metric"]): row for row in table.to_dict("records")}
    for label in test:
        for score in score_sets(test[label], fake[label], 5, 10, 7):
            row = found[label, score.metric]
            assert isinstance(row["floor_n"], int)
            expected = {"value": score.value, "n_real": score.n_real, "n_fake": score.n_fake}
            around, floor = score.interval, score.floor
            for key in ("standard_error", "low", "high"):
                expected[key] = getattr(around, key) if around else np.nan
            for key, name in (
                ("floor_n", "n"),
                ("floor", "floor"),
                ("floor_spread", "spread"),
                ("score_at_floor_n", "score"),
            ):
                expected[key] = getattr(floor, name) if floor else np.nan
            assert {key: row[key] for key in expected} == pytest.approx(expected, nan_ok=True)
    # With three generated images there is no interval.
    assert list(rows.loc["PNEUMONIA"].index) == ["frechet", "kid"]
    assert rows.loc["PNEUMONIA", "low"].isna().all()
    assert rows.loc["PNEUMONIA", "floor_n"].eq(3).all()


def test_what_cannot_be_told_stays_empty() -> None:
    test = {"NORMAL": strangers(80, 1), "PNEUMONIA": strangers(20, 2, 2.0)}
    train = {"NORMAL": strangers(4, 3), "PNEUMONIA": strangers(80, 4, 2.0)}
    fake = {"NORMAL": strangers(80, 5), "PNEUMONIA": strangers(80, 6, 1.0)}
    rows = class_scores(test, train, fake, 5, 10, 0).set_index(["class", "metric"])
    few = rows.loc["NORMAL"]  # whose train split has too few images for five neighbours
    assert few["train_test"].notna().to_dict() == {
        metric: metric in ("frechet", "kid") for metric in few.index
    }
    # The floor's 39 images cannot be drawn of the other class.
    assert few["floor_n"].eq(39).all()
    assert few["other_class"].isna().all()
    assert few["excess"].isna().all()
    assert rows.loc[("PNEUMONIA", "frechet"), "excess"] > 0


def test_the_distance_at_infinitely_many_samples_stands_beside() -> None:
    test = {"NORMAL": strangers(400, 1), "PNEUMONIA": strangers(40, 2, 2.0)}
    train = {"NORMAL": strangers(40, 3), "PNEUMONIA": strangers(40, 4, 2.0)}
    fake = {"NORMAL": strangers(400, 5, 0.5), "PNEUMONIA": strangers(10, 6, 2.0)}
    rows = class_scores(test, train, fake, 5, 4, 0).set_index(["class", "metric"])
    assert rows.loc[("NORMAL", "frechet"), "infinite"] == pytest.approx(6 * 0.5**2, rel=0.25)
    assert rows["infinite"].notna().sum() == 1
