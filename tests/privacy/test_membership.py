"""The clean membership attack finds a leak, finds none where there is none, and knows its error."""

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from src.common.errors import UserError
from src.data.dataset import ImageSet
from src.data.patients import Indices, Patients
from src.metrics.intervals import Interval
from src.privacy.attack import attack_score, delong_roc_auc
from src.privacy.membership import (
    CLEAN,
    OTHER_HALF,
    RESAMPLES,
    TEST_SPLIT,
    MembershipResult,
    Target,
    attack_halves,
    evaluate_attacks,
    membership_sentence,
    train_halves,
    true_positive_rate,
)
from src.privacy.neighbours import FeatureSpace, Images, MakeSpace, PixelSpace
from src.report.wording import MEMBERSHIP_ATTACKS
from tests.privacy.test_copy_test import SETTINGS, grey_values

RUNS = pytest.mark.parametrize(
    "runs", [pytest.param(20, id="quick"), pytest.param(1000, marks=pytest.mark.long)]
)
HALVES = (np.arange(60), np.arange(60, 130))


def features(references: Images) -> FeatureSpace:
    return FeatureSpace(grey_values, references)


def noise(rng: np.random.Generator, count: int, spread: float = 20.0, side: int = 4) -> Images:
    """Images of independent grey values."""
    return rng.normal(128, spread, (count, side, side)).clip(0, 255).astype(np.uint8)


def image_set(images: Images, images_per_patient: int = 1) -> ImageSet:
    return ImageSet.of_class(
        images, "NORMAL", Patients(np.arange(len(images)) // images_per_patient)
    )


def swapped(first: NDArray[np.float64], second: NDArray[np.float64]) -> list[Target]:
    return [Target(first, 0, 1), Target(second, 1, 0)]


def attacked(
    train: ImageSet,
    test: ImageSet,
    generated: tuple[Images, Images],
    make_space: MakeSpace = features,
    halves: tuple[Indices, Indices] | None = None,
) -> dict[str, MembershipResult]:
    halves = halves or train_halves(train, SETTINGS, 0)
    return attack_halves(train, test, halves, generated, make_space, SETTINGS, 0)


def test_the_score_is_the_difference_of_the_negative_log_distances() -> None:
    near, far = np.array([1.0, 2.0, 0.0]), np.array([4.0, 2.0, 1.0])
    assert attack_score(near, far) == pytest.approx(
        -np.log([1.0, 2.0, 1e-6]) + np.log(far), abs=1e-4
    )


@pytest.mark.parametrize("others", [40, 99, 100, 199, 605])
def test_the_true_positive_rate_is_that_of_scikit_learns_roc_curve(others: int) -> None:
    rng = np.random.default_rng(others)
    positive, negative = rng.normal(1.5, 1, 300).round(1), rng.normal(0, 1, others).round(1)
    labels = np.repeat([1, 0], [300, others])
    scores = np.concatenate([positive, negative])
    shares, found, _ = roc_curve(labels, scores, drop_intermediate=False)
    expected = found[shares <= 0.01].max()
    assert expected > 0
    assert true_positive_rate(positive, negative) == pytest.approx(expected)


def test_with_the_other_generator_as_the_reference_both_attacks_are_one() -> None:
    """So the mean has the area and the interval of one attack on independent patients."""
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 1, 130).round(1)
    scores[HALVES[0]] += 0.5
    found = evaluate_attacks(swapped(scores, -scores), HALVES, rng)
    auc, interval = delong_roc_auc(*(scores[half] for half in HALVES))
    assert found.auc == pytest.approx(auc)
    assert found.interval.standard_error == pytest.approx(interval.standard_error)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))
    assert (found.members, found.others) == (130, 130)


def test_the_error_is_delongs_of_correlated_curves() -> None:
    """By the matrix of all pairs, of which each patient has a row in one and a column in both."""
    rng = np.random.default_rng(2)
    first = rng.normal(0, 1, 130)
    second = 0.6 * first + rng.normal(0, 1, 130)
    found = evaluate_attacks(swapped(first, second), HALVES, rng)
    a, b = HALVES
    one = (first[a][:, None] > first[b][None, :]).astype(float)  # members are rows
    other = (second[b][None, :] > second[a][:, None]).astype(float)  # members are columns
    assert found.auc == pytest.approx((one.mean() + other.mean()) / 2)
    of_both = (one + other) / 2
    variance = of_both.mean(1).var(ddof=1) / 60 + of_both.mean(0).var(ddof=1) / 70
    assert found.interval.standard_error == pytest.approx(np.sqrt(variance))
    labels = np.repeat([1, 0], [60, 70])
    assert one.mean() == pytest.approx(roc_auc_score(labels, first))


def test_members_of_two_attacks_on_one_test_split_count_once_and_its_images_twice() -> None:
    rng = np.random.default_rng(3)
    groups = (np.arange(30), np.arange(30, 60), np.arange(60, 100))
    first, second = rng.normal(0, 1, (2, 100))
    found = evaluate_attacks([Target(first, 0, 2), Target(second, 1, 2)], groups, rng)
    assert (found.members, found.others) == (60, 40)
    one = first[groups[0]][:, None] > first[groups[2]]
    other = second[groups[1]][:, None] > second[groups[2]]
    variance = (one.mean(1).var(ddof=1) + other.mean(1).var(ddof=1)) / 30 / 4
    variance += ((one.mean(0) + other.mean(0)) / 2).var(ddof=1) / 40
    assert found.interval.standard_error == pytest.approx(np.sqrt(variance))


def test_the_rates_interval_rests_on_halves_of_the_patients() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(0, 1, 130)
    scores[HALVES[0]] += 2
    found = evaluate_attacks(swapped(scores, -scores), HALVES, np.random.default_rng(5))
    again = np.random.default_rng(5)
    rates = []
    for _ in range(RESAMPLES):
        a, b = (again.permutation(half)[: len(half) // 2] for half in HALVES)
        rates.append(
            (np.mean(scores[a] > scores[b].max()) + np.mean(scores[b] < scores[a].min())) / 2
        )
    interval = found.true_positives_interval
    assert interval.standard_error == pytest.approx(np.std(rates, ddof=1))
    half_width = scipy.stats.t.ppf(0.975, 59) * interval.standard_error
    assert interval.high == pytest.approx(min(found.true_positives + half_width, 1))


@RUNS
@pytest.mark.parametrize("leak", [0.0, 0.5])
@pytest.mark.parametrize("correlation", [-1.0, 0.5])
def test_the_intervals_cover_the_true_values(leak: float, correlation: float, runs: int) -> None:
    """Of scores whose distributions are known, for both kinds of reference."""
    groups = (np.arange(300), np.arange(300, 600))
    true_auc = scipy.stats.norm.cdf(leak / np.sqrt(2))
    true_rate = scipy.stats.norm.sf(scipy.stats.norm.isf(0.01) - leak)
    covered = []
    for seed in range(runs):
        rng = np.random.default_rng([6, seed])
        first, second = rng.normal(0, 1, (2, 600))
        second = correlation * first + np.sqrt(1 - correlation**2) * second
        first[groups[0]] += leak
        second[groups[1]] += leak
        found = evaluate_attacks(swapped(first, second), groups, rng)
        rate = found.true_positives_interval
        covered.append(
            (
                found.interval.low <= true_auc <= found.interval.high,
                rate.low <= true_rate <= rate.high,
            )
        )
    area, rate_share = np.mean(covered, axis=0)
    chance = scipy.stats.binom(runs, 0.95)
    assert chance.ppf(0.001) <= area * runs <= chance.ppf(0.999)
    # That of a rate of few images is approximate, and rather too wide than too narrow.
    assert rate_share * runs >= scipy.stats.binom(runs, 0.93).ppf(0.001)


@RUNS
def test_generators_that_copy_nobody_are_not_called_leaking(runs: int) -> None:
    """Though one is better than the other, and test images spread more than train images."""
    alarms = 0
    splits = []
    for seed in range(runs):
        rng = np.random.default_rng([7, seed])
        generated = noise(rng, 150, 15), noise(rng, 150, 19)
        train, test = image_set(noise(rng, 240), 2), image_set(noise(rng, 100, 26))
        found = attacked(train, test, generated)
        alarms += "tells" in membership_sentence({"features": found[CLEAN]})
        splits.append(found[TEST_SPLIT].auc - found[OTHER_HALF].auc)
    assert alarms <= scipy.stats.binom(runs, 0.025).ppf(0.999)
    # Today's attack blames the generators for what the splits do.
    assert np.mean(splits) > 4 * np.std(splits) / np.sqrt(runs)


@pytest.mark.parametrize("make_space", [features, PixelSpace])
def test_a_generator_that_returns_its_own_half_with_noise_is_attacked(
    make_space: MakeSpace,
) -> None:
    rng = np.random.default_rng(8)
    train = image_set(noise(rng, 160, side=16), 2)
    test = image_set(noise(rng, 60, side=16))
    halves = train_halves(train, SETTINGS, 0)
    first, second = (
        (train.images[half] + rng.normal(0, 4, (len(half), 16, 16))).clip(0, 255).astype(np.uint8)
        for half in halves
    )
    found = attacked(train, test, (first, second), make_space, halves)
    for attack in MEMBERSHIP_ATTACKS:
        assert found[attack].auc > 0.99
        assert found[attack].true_positives > 0.95
    assert (found[CLEAN].members, found[CLEAN].others) == (80, 80)  # one image of a patient
    assert (found[TEST_SPLIT].members, found[TEST_SPLIT].others) == (80, 60)
    # Swapped, the other generator's copies speak against membership.
    assert attacked(train, test, (second, first), make_space, halves)[CLEAN].auc < 0.01
    # A generator that returns images of nobody says nothing.
    nobody = (noise(rng, 150, side=16), noise(rng, 150, side=16))
    honest = attacked(train, test, nobody, make_space, halves)[CLEAN].interval
    assert honest.low < 0.5 < honest.high


def test_no_more_patients_are_attacked_than_the_settings_say() -> None:
    rng = np.random.default_rng(9)
    train, test = image_set(noise(rng, 80), 2), image_set(noise(rng, 40))
    few = SETTINGS.model_copy(update={"membership_images": 7})
    generated = noise(rng, 7), noise(rng, 7)
    halves = train_halves(train, few, 1)
    found = attack_halves(train, test, halves, generated, features, few, 1)
    assert (found[CLEAN].members, found[TEST_SPLIT].others) == (14, 7)
    assert attack_halves(train, test, halves, generated, features, few, 1) == found


def test_too_few_patients_are_refused() -> None:
    images = noise(np.random.default_rng(10), 12)
    with pytest.raises(UserError, match="train images are of fewer than 4 patients"):
        train_halves(image_set(images, 4), SETTINGS, 0)
    with pytest.raises(UserError, match="test images are of fewer than 4 patients"):
        attacked(image_set(images), image_set(images, 4), (images, images))


def test_every_attack_has_its_words() -> None:
    assert list(MEMBERSHIP_ATTACKS) == [CLEAN, OTHER_HALF, TEST_SPLIT]


def result(auc: float, low: float, high: float) -> MembershipResult:
    rate = Interval(0.01, 0.0, 0.03)
    return MembershipResult(auc, Interval(0.01, low, high), 0.01, rate, 80, 80)


def test_the_sentence_says_what_the_strongest_space_shows() -> None:
    weak, strong = result(0.52, 0.49, 0.55), result(0.61, 0.58, 0.64)
    assert membership_sentence({"pixels": weak}) == (
        "A clean membership attack can't tell train images from others: ROC AUC 0.52 (0.49 to "
        "0.55) in pixels."
    )
    assert membership_sentence({"pixels": weak, "inception features": strong}) == (
        "A clean membership attack tells train images from others: ROC AUC 0.61 (0.58 to 0.64) "
        "in inception features."
    )
