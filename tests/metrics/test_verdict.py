"""The verdict in ties and in clear cases, on Gaussian features of which the truth is known."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from src.data.patients import Patients
from src.metrics.frechet import FeatureSet, frechet_distance
from src.metrics.protocol import PAIRS
from src.metrics.scores import FeatureSample
from src.metrics.verdict import judge_hypothesis, measure_differences, thesis_statistic
from tests.metrics.test_protocol import good_fake, run, swapped_fake

THESIS = pd.DataFrame([{"iteration": 0, "pair": pair, "distance": 1.0} for pair in PAIRS])
GOOD = (0.0, 2.0, 0.1, 2.1)  # means of RN, RP, FN and FP along one axis
SWAPPED = (0.0, 2.0, 2.0, 0.0)
FAR = (0.0, 1.0, 3.0, -3.0)
SAME = (0.0, 0.0, 0.0, 0.0)
# FN is as far from RN as RP is; all other differences are clear.
AS_FAR_AS_THE_OTHER_CLASS = (0.0, 1.0, -1.0, 1.3)
# FN is as far from RN as from RP.
MIDWAY = (0.0, 1.0, 0.5, 1.1)
# As the first, with the spread of FN shrunk to 0.6: 0.8^2 + (1 - 0.6)^2 * 2.25 = 1.
SHRUNK = (0.0, 1.0, -0.8, 1.3)


@dataclass(frozen=True)
class Rates:
    """Shares of simulated data sets with each verdict, and with six positive differences."""

    holds: float
    fails: float
    positive: float
    means: NDArray[np.float64]  # of the differences


def sample(
    centre: float, patients: int, images: int, dims: int, rng: np.random.Generator, scale: float = 1
) -> FeatureSample:
    """Gaussian features of a decaying spectrum, trace 2.25; images of a patient are alike."""
    spread = (1.0 + np.arange(dims)) ** -0.5
    spread *= scale * 1.5 / np.linalg.norm(spread)
    shared = np.repeat(rng.standard_normal((patients, dims)), images, axis=0)
    own = rng.standard_normal((patients * images, dims))
    share = 0.5 if images > 1 else 0.0
    features = (np.sqrt(share) * shared + np.sqrt(1 - share) * own) * spread
    features[:, 0] += centre
    return FeatureSample(
        features.astype(np.float32), Patients(np.repeat(np.arange(patients), images))
    )


def four_sets(
    centres: tuple[float, ...], patients: int, images: int, dims: int, seed: int, scale: float = 1
) -> dict[str, FeatureSample]:
    """The four sets; each generated image has a patient of its own, and FN is scaled."""
    rng = np.random.default_rng(seed)
    return {
        "RN": sample(centres[0], patients, images, dims, rng),
        "RP": sample(centres[1], patients + 7, images, dims, rng),
        "FN": sample(centres[2], patients * images, 1, dims, rng, scale),
        "FP": sample(centres[3], (patients + 7) * images, 1, dims, rng),
    }


def rates(
    centres: tuple[float, ...],
    runs: int,
    patients: int = 60,
    images: int = 2,
    dims: int = 16,
    scale: float = 1,
) -> Rates:
    found = []
    for seed in range(runs):
        sets = four_sets(centres, patients, images, dims, seed, scale)
        found.append(judge_hypothesis(THESIS, sets, 24, seed))
    values = np.array([[part.value for part in result.differences] for result in found])
    return Rates(
        holds=float(np.mean([result.result == "holds" for result in found])),
        fails=float(np.mean([result.result == "does not hold" for result in found])),
        positive=float((values > 0).all(axis=1).mean()),
        means=values.mean(axis=0),
    )


TIES = [
    pytest.param(AS_FAR_AS_THE_OTHER_CLASS, 1.0, id="as far as the other class"),
    pytest.param(MIDWAY, 1.0, id="midway between the classes"),
    pytest.param(SHRUNK, 0.6, id="as far as the other class, with less variety"),
]


@pytest.mark.parametrize(("centres", "scale"), TIES)
def test_a_tie_seldom_holds(centres: tuple[float, ...], scale: float) -> None:
    """Without intervals it would in about half of the data sets."""
    found = rates(centres, 40, scale=scale)
    assert found.holds <= 0.05
    assert 0.25 < found.positive < 0.75


def test_clear_cases_are_decided() -> None:
    assert rates(GOOD, 15).holds > 0.9
    assert rates(SWAPPED, 15).fails == 1
    assert rates(FAR, 15).fails == 1
    assert rates(SAME, 15).holds == 0


@pytest.mark.long
@pytest.mark.parametrize(("centres", "scale"), TIES)
@pytest.mark.parametrize(
    ("dims", "patients", "images"), [(64, 100, 2), (64, 230, 1), (768, 100, 2)]
)
def test_a_tie_holds_in_at_most_5_percent_of_data_sets(
    centres: tuple[float, ...], scale: float, dims: int, patients: int, images: int
) -> None:
    found = rates(centres, 100, patients, images, dims, scale)
    assert found.holds <= 0.05
    assert 0.25 < found.positive < 0.75


@pytest.mark.long
@pytest.mark.parametrize(("dims", "patients"), [(64, 100), (768, 230)])
def test_clear_cases_are_decided_with_many_features(dims: int, patients: int) -> None:
    assert rates(GOOD, 15, patients, 1, dims).holds > 0.9
    assert rates(SWAPPED, 15, patients, 1, dims).fails == 1


def test_a_corrected_distance_has_no_bias_of_few_images() -> None:
    """With 64 features of 20 images, and FN less varied than RP, or of a patient's many images."""
    for images, scale in ((1, 1.0), (4, 1.0), (1, 0.5)):
        found = rates(SAME, 20, 40, images, 64, scale).means
        plain = []
        for seed in range(20):
            sets = four_sets(SAME, 40, images, 64, seed, scale)
            half = {name: FeatureSet(part.features[:20]) for name, part in sets.items()}
            plain.append(
                frechet_distance(half["RN"], half["RP"]) - frechet_distance(half["RN"], half["FN"])
            )
        # RNxRP is 0, and RNxFN the squared difference of the spreads.
        truth = -((1 - scale) ** 2) * 2.25
        assert found[0] == pytest.approx(truth, abs=0.06)
        if (images, scale) != (1, 1.0):
            assert abs(np.mean(plain) - truth) > 0.2  # what is corrected


def test_the_interval_is_the_spread_between_data_sets() -> None:
    many = [four_sets(GOOD, 60, 1, 8, seed) for seed in range(40)]
    found = [measure_differences(sets, 24, 1) for sets in many]
    values = np.array([[part.value for part in parts] for parts in found])
    widths = np.array([[part.high - part.low for part in parts] for parts in found])
    ratio = widths.mean(axis=0) / 2 / 2.07 / values.std(axis=0, ddof=1)  # t with 23 degrees
    assert ratio == pytest.approx(np.ones(6), abs=0.3)


def test_the_seed_names_the_halves() -> None:
    sets = four_sets(GOOD, 30, 2, 8, 1)
    assert measure_differences(sets, 10, 1) == measure_differences(sets, 10, 1)
    assert measure_differences(sets, 10, 1) != measure_differences(sets, 10, 2)


def test_sets_of_too_few_patients_are_undecided() -> None:
    for patients, reason in (
        (4, ""),
        (3, "the real NORMAL images are of 3 patients, and 4 or more are needed"),
    ):
        result = judge_hypothesis(THESIS, four_sets(GOOD, patients, 20, 8, 1), 10, 1)
        assert result.reason == reason
        assert len(result.differences) == (0 if reason else 6)
        assert result.n == (0 if reason else 2)


def test_sets_without_any_variety_are_undecided() -> None:
    same = FeatureSample.of_singletons(np.ones((20, 3), dtype=np.float32))
    result = judge_hypothesis(THESIS, dict.fromkeys(("RN", "RP", "FN", "FP"), same), 10, 1)
    assert result.result == "undecided"


def test_the_thesis_statistic_describes_the_draws() -> None:
    good, swapped = thesis_statistic(run()), thesis_statistic(run(swapped_fake))
    assert (good.share, swapped.share) == (1, 0)
    assert good.largest_same_mean < good.smallest_different_mean
    assert (good.largest_same, good.smallest_different) == ("RNxFN", "FNxFP")
    assert (swapped.largest_same, swapped.smallest_different) == ("RNxFN", "RPxFN")


def test_equal_distances_are_no_draw_in_its_favour() -> None:
    assert thesis_statistic(THESIS).share == 0


def test_the_share_counts_the_iterations_in_which_it_holds() -> None:
    def mixed(name: str, iteration: int) -> NDArray[np.float32]:
        return (good_fake if iteration % 4 else swapped_fake)(name, iteration)

    assert thesis_statistic(run(mixed, iterations=8)).share == pytest.approx(6 / 8)
