"""Scores against cases worked by hand; arms that differ only in what they learn from."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from src.common.errors import UserError
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.utility.runs import (
    ARMS,
    BASELINE,
    CHALLENGERS,
    ClassifierRun,
    RunResult,
    UtilitySets,
    planned_runs,
    run_classifier,
    run_classifiers,
    split_off_validation,
    subset,
)
from src.utility.statistics import (
    _interval,
    average_precision,
    balanced_accuracy,
    calibration_error,
    gan_accuracies,
    holm,
    prior_corrected_calibration_error,
    roc_auc,
    sensitivity,
    summarize,
)
from src.utility.verdict import judge_utility, signed
from tests.utility.test_classifiers import SETTINGS, spots

CPU = torch.device("cpu")


@pytest.fixture
def labels() -> NDArray[np.bool_]:
    return np.random.default_rng(0).random(300) < 0.6


@pytest.fixture
def logits(labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    return (np.random.default_rng(1).normal(0, 1.5, 300) + labels).round(1)


# Logits of four images without and four with pneumonia; worked by hand.
BY_HAND = (
    np.array([False] * 4 + [True] * 4),
    np.array([-2.0, -1.0, 0.5, 1.0, -1.0, 0.5, 2.0, 3.0]),
)


def test_scores_are_those_worked_by_hand() -> None:
    # Of 16 pairs, -1 beats one and ties with one, 0.5 beats two and ties with one, 2 and 3 beat
    # all four: 1.5 + 2.5 + 4 + 4 = 12.
    assert roc_auc(*BY_HAND) == pytest.approx(12 / 16)
    # The precision at each logit of a positive, highest first: 1/1, 2/2, then two ties at 0.5 and
    # the 1.0 of a negative before them: 3/5, and at -1 all four of seven.
    assert average_precision(*BY_HAND) == pytest.approx((1 + 1 + 3 / 5 + 4 / 7) / 4)
    assert average_precision(BY_HAND[0], np.zeros(8)) == 0.5  # the prevalence
    # Above 0: three of four with pneumonia, two of four without.
    assert balanced_accuracy(*BY_HAND) == pytest.approx((3 / 4 + 2 / 4) / 2)
    # No false alarm is allowed among four, so the threshold lies above 1.
    assert sensitivity(*BY_HAND) == pytest.approx(2 / 4)


def test_sensitivity_allows_5_percent_of_false_alarms() -> None:
    labels = np.repeat([False, True], [20, 4])
    logits = np.array([*np.arange(20.0), 5.0, 18.5, 19.5, 18.0])
    assert sensitivity(labels, logits) == pytest.approx(2 / 4)  # one of 20 may lie above: 19
    assert sensitivity(labels, labels.astype(float)) == 1
    assert sensitivity(labels, np.zeros(24)) == 0


def test_calibration_is_the_mean_gap_of_ten_bins(
    labels: NDArray[np.bool_], logits: NDArray[np.float64]
) -> None:
    probability = 1 / (1 + np.exp(-logits))
    total = 0.0
    weights = [0.5 / (labels == label).sum() for label in labels]
    for low in np.arange(10) / 10:
        inside = (probability >= low) & (probability < low + 0.1)
        gap = sum(w * (p - y) for w, p, y, i in zip(weights, probability, labels, inside) if i)  # noqa: B905
        total += abs(gap)
    assert calibration_error(labels, logits) == pytest.approx(total)
    sure = np.where(labels, 50.0, -50.0)
    assert calibration_error(labels, sure) == pytest.approx(0, abs=1e-12)
    assert calibration_error(labels, -sure) == pytest.approx(1)
    assert calibration_error(labels, np.zeros(300)) == pytest.approx(0)


def test_after_prior_correction_probabilities_are_those_of_the_images() -> None:
    """Logits of a network that saw as many of each class, and images of which one in ten is sick.

    The right probabilities are those of Bayes' rule; the log likelihood ratio of two normal
    distributions, a distance of 2 apart, is 2x.
    """
    rng = np.random.default_rng(0)
    sick = rng.random(100_000) < 0.1
    logits = 2 * (rng.normal(size=len(sick)) + np.where(sick, 1, -1))
    assert prior_corrected_calibration_error(sick, logits) < 0.01
    assert prior_corrected_calibration_error(sick, logits + 1) > 0.02
    assert calibration_error(sick, logits) < 0.02
    balanced = np.repeat([False, True], 50)
    half = rng.normal(size=100)
    assert prior_corrected_calibration_error(balanced, half) == pytest.approx(
        calibration_error(balanced, half)
    )


def test_holms_correction_is_that_worked_by_hand() -> None:
    """Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, none below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_every_arm_is_tried_at_every_size_that_it_has() -> None:
    all_runs = list(planned_runs(SETTINGS))
    assert len(all_runs) == len(set(all_runs)) == 2 * 2 * (4 * 2 + 1)
    assert {run.arm for run in all_runs} == set(ARMS)
    assert {run.fraction for run in all_runs if run.arm == "generated"} == {0.0}
    assert BASELINE in ARMS
    assert set(CHALLENGERS) <= set(ARMS)


def families(count: int) -> ImageSet:
    """Images of which a patient has two; patients of both classes."""
    images = spots(count, 0)
    return ImageSet(
        images.images,
        images.is_pneumonia,
        Patients((np.arange(count) // 4) * 2 + images.is_pneumonia),
    )


def test_validation_patients_are_no_patients_to_learn_from() -> None:
    images = families(400)
    fit, validation = split_off_validation(images, 5, 0.2)
    assert len(fit) + len(validation) == 400
    assert not set(fit.patients.ids) & set(validation.patients.ids)
    for label in (False, True):
        assert (validation.is_pneumonia == label).sum() == pytest.approx(40, abs=2)
    again = split_off_validation(images, 5, 0.2)[1]
    np.testing.assert_array_equal(again.patients.ids, validation.patients.ids)
    assert set(split_off_validation(images, 6, 0.2)[1].patients.ids) != set(validation.patients.ids)


def test_a_subset_is_of_whole_patients_as_large_as_asked_and_another_one_each_time() -> None:
    images = families(400)
    chosen = [subset(images, 0.25, repeat, 5) for repeat in (0, 1)]
    for part in chosen:
        assert len(part) == 100
        assert part.is_pneumonia.sum() == 50
        assert set(np.bincount(part.patients.ids)) == {0, 2}
    assert set(chosen[0].patients.ids) != set(chosen[1].patients.ids)
    assert len(subset(images, 1.0, 0, 5)) == 400
    tiny = subset(images, 0.001, 0, 5)
    assert set(tiny.is_pneumonia) == {False, True}


def test_few_patients_of_many_images_still_leave_one_for_validation() -> None:
    images = spots(200, 0)
    whose = np.arange(200) // 50 * 2 + images.is_pneumonia
    few = ImageSet(images.images, images.is_pneumonia, Patients(whose))
    fit, validation = split_off_validation(few, 5, 0.01)
    assert len(np.unique(validation.patients.ids)) == 2
    assert len(fit) + len(validation) == 200


def test_a_class_of_one_patient_is_refused_by_name() -> None:
    images = spots(40, 0)
    one = ImageSet(
        images.images,
        images.is_pneumonia,
        Patients(np.where(images.is_pneumonia, 0, np.arange(40))),
    )
    with pytest.raises(UserError, match="the train images of PNEUMONIA are of too few patients"):
        split_off_validation(one, 5, 0.2)


@pytest.fixture(scope="module")
def sets() -> UtilitySets:
    """Generated images that teach the opposite of the truth."""
    lying = spots(100, 3)
    wrong = ImageSet(lying.images, ~lying.is_pneumonia, lying.patients)
    return UtilitySets(spots(120, 0), spots(40, 1), spots(80, 2), wrong, wrong)


@pytest.fixture(scope="module")
def results(sets: UtilitySets) -> list[RunResult]:
    return list(run_classifiers(sets, SETTINGS, CPU, 2))


def test_the_results_do_not_depend_on_the_workers(
    sets: UtilitySets, results: list[RunResult]
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for result in results[::7]:
        alone = run_classifier(result.run, sets, SETTINGS, CPU)
        assert np.array_equal(result.test, alone.test)
    torch.set_num_threads(threads)


def test_images_that_lie_are_found_out(sets: UtilitySets, results: list[RunResult]) -> None:
    scores, differences = summarize(results, sets.test, SETTINGS)
    aucs = scores[scores["metric"] == "roc_auc"].set_index(["network", "arm", "fraction"])["value"]
    for network in ("LeNet-5", "residual"):
        assert aucs[network, "generated", 0.0] < 0.5 < aucs[network, "real", 1.0]
    assert not judge_utility(differences).beaten
    accuracies = gan_accuracies(results, sets)["LeNet-5"]
    assert accuracies["gan_train"] < 0.5
    assert accuracies["gan_test"] < 0.5 < accuracies["real"]
    assert np.all(scores["low"] <= scores["value"])
    assert np.all(scores["value"] <= scores["high"])


def made(test: ImageSet, gain: float, repeats: int, seed: int) -> list[RunResult]:
    """Results of two arms, of which one separates the classes by ``gain`` more."""
    rng = np.random.default_rng(seed)
    found = []
    for repeat in range(repeats):
        shared = rng.normal(size=len(test))
        for arm, strength in ((BASELINE, 1.0), (CHALLENGERS[0], 1.0 + gain)):
            own = shared + 0.3 * rng.normal(size=len(test)) + strength * test.is_pneumonia
            found.append(RunResult(ClassifierRun("LeNet-5", arm, 1.0, repeat), own, own))
    return found


def test_a_gain_is_told_with_its_size_and_no_gain_is_not_invented() -> None:
    test = spots(400, 5)
    _, differences = summarize(made(test, 1.0, 3, 0), test, SETTINGS)
    row = differences[differences["metric"] == "roc_auc"].iloc[0]
    truth = [scipy.stats.norm.cdf(gain / math.sqrt(2 * 1.09)) for gain in (1, 2)]
    assert row["low"] < truth[1] - truth[0] < row["high"]
    assert row["low"] > 0
    assert judge_utility(differences).beaten


def test_scores_and_differences_are_of_the_whole_test_set_and_the_mean_of_the_repeats() -> None:
    test = spots(400, 5)
    found = made(test, 1.0, 3, 0)
    scores, differences = summarize(found, test, SETTINGS)
    means = {}
    for arm in (BASELINE, CHALLENGERS[0]):
        areas = [
            roc_auc_score(test.is_pneumonia, made.test) for made in found if made.run.arm == arm
        ]
        means[arm] = float(np.mean(areas))
        row = scores[(scores["arm"] == arm) & (scores["metric"] == "roc_auc")].iloc[0]
        assert row["value"] == pytest.approx(means[arm])
        assert row["low"] < row["value"] < row["high"]
    row = differences[differences["metric"] == "roc_auc"].iloc[0]
    assert row["difference"] == pytest.approx(means[CHALLENGERS[0]] - means[BASELINE])


@pytest.mark.parametrize(("strength", "edge"), [(-300, "low"), (300, "high")])
def test_intervals_of_scores_end_at_0_and_1(strength: int, edge: str) -> None:
    test = spots(60, 5)
    rng = np.random.default_rng(0)
    found = [
        RunResult(ClassifierRun("n", BASELINE, 1.0, repeat), logits, logits)
        for repeat in range(2)
        for logits in [rng.normal(0, 100, len(test)) + strength * test.is_pneumonia]
    ]
    scores, _ = summarize(found, test, SETTINGS)
    row = scores[scores["metric"] == "roc_auc"].iloc[0]
    assert row["standard_error"] > 0
    assert row[edge] == (1 if edge == "high" else 0)


def test_the_intervals_cover_the_truth() -> None:
    settings = SETTINGS.model_copy(update={"resamples": 30})
    inside = []
    for seed in range(60):
        test = spots(120, 100 + seed)
        _, differences = summarize(made(test, 0.0, 3, seed), test, settings)
        row = differences[differences["metric"] == "roc_auc"].iloc[0]
        inside.append(row["low"] < 0 < row["high"])
    assert np.mean(inside) >= 0.9


def gaps(fraction: float, *differences: float, p: float = 0.001) -> list[dict[str, object]]:
    row_keys = {"network": "n", "arm": "real + both", "fraction": fraction, "metric": "roc_auc"}
    return [
        row_keys | {"difference": d, "low": round(d - 0.02, 3), "high": round(d + 0.02, 3), "p": p}
        for d in differences
    ]


def test_the_verdict_rests_on_all_real_images_and_labels_the_rest() -> None:
    table = pd.DataFrame(gaps(1.0, -0.05, 0.01, p=0.3) + gaps(0.2, 0.03, 0.04, -0.03))
    verdict = judge_utility(table)
    assert not verdict.beaten
    assert verdict.sentence == (
        "Generated images did not improve the classifier. Best change in ROC AUC over classical "
        "augmentation: +0.010 (95 % CI -0.010 to +0.030, n, added to it, half of each batch, all "
        "real images but those of the validation). The change is significantly negative in 0 of 2 "
        "comparisons. The generators saw all real train images. With fewer real images the ROC AUC "
        "is higher in 2 and lower in 1 of 3 comparisons (expected by chance: 0.1 each)."
    )
    alone = judge_utility(pd.DataFrame(gaps(1.0, 0.03) + gaps(1.0, 0.05, p=0.04)))
    assert alone.beaten
    assert alone.sentence.startswith(
        "Generated images improved the classifier in 1 of 2 ways. Best change "
    )
    assert "+0.030" in alone.sentence  # the one that is sure, not the larger one
    assert "fewer" not in alone.sentence
    instead = pd.DataFrame(gaps(1.0, -0.01)).assign(arm="real + generated")
    assert "n, instead of it, all real images" in judge_utility(instead).sentence
    assert "significantly negative in 1 of 1 comparisons" in judge_utility(instead).sentence


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.0004, "0.000"), (0.0, "0.000"), (0.0004, "0.000"), (-0.0006, "-0.001"), (0.25, "+0.250")],
)
def test_a_difference_that_rounds_to_zero_has_no_sign(value: float, text: str) -> None:
    assert signed(value) == text


def test_the_best_of_what_does_not_help_is_the_largest_difference() -> None:
    """Not the one whose interval is narrowest; what lowers it is as sure as what would raise it."""
    table = pd.DataFrame(gaps(1.0, 0.03, -0.01, p=0.3) + gaps(1.0, -0.05, -0.04))
    table.loc[table["difference"] == -0.01, "low"] = -0.011
    sentence = judge_utility(table).sentence
    assert "did not improve" in sentence
    assert "+0.030" in sentence
    assert "significantly negative in 2 of 4 comparisons." in sentence
    assert "The generators saw all real train images." in sentence


def test_one_of_many_comparisons_that_is_only_just_sure_is_not_enough() -> None:
    assert not judge_utility(pd.DataFrame(gaps(1.0, 0.03, 0.0, p=0.03))).beaten


def test_a_test_split_of_one_patient_is_refused() -> None:
    images = spots(40, 0)
    one = ImageSet(images.images, images.is_pneumonia, Patients(images.is_pneumonia.astype(int)))
    with pytest.raises(UserError, match="the test images of NORMAL are of too few patients"):
        summarize([], one, SETTINGS)


@pytest.mark.parametrize("patients", [3, 99])
def test_an_interval_is_of_the_variances_of_trainings_and_of_patients(patients: int) -> None:
    """By hand: three trainings, four halves; Welch and Satterthwaite's degrees of freedom."""
    found = np.array(
        [[0.80, 0.7, 0.9, 0.8, 0.6], [0.84, 0.8, 0.8, 0.7, 0.7], [0.9, 0.9, 1, 0.6, 1]]
    )
    by_training = ((0.80 - 0.84667) ** 2 + (0.84 - 0.84667) ** 2 + (0.9 - 0.84667) ** 2) / 2 / 3
    halves = [0.8, 0.9, 0.7, 2.3 / 3]
    middle = sum(halves) / 4
    by_patients = sum((half - middle) ** 2 for half in halves) / 3
    error = math.sqrt(by_training + by_patients)
    degrees = error**4 / (by_training**2 / 2 + by_patients**2 / (min(4, patients) - 1))
    half_width = scipy.stats.t.ppf(0.975, degrees) * error
    mean = 2.54 / 3
    assert _interval(found, patients) == pytest.approx(
        {
            "standard_error": error,
            "low": mean - half_width,
            "high": mean + half_width,
            "p": 2 * scipy.stats.t.sf(mean / error, degrees),
        },
        rel=1e-4,
    )
