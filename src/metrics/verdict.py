"""Test of the thesis's hypothesis that same-class distances are below different-class ones.

It is a statement on differences: each same-class pair against each different-class pair with real
images. The distances of a difference share one set, are of as many images, and are computed on the
same random halves of the patients. So their common errors cancel, and the spread over the halves is
the standard error of their difference (``intervals.interval_of_halves``).

The distance of few images is biased upwards, and more so the wider they are spread: a generator
without variety would look near. Each distance is therefore corrected by those of disjoint halves
of one set, whose true distance is 0. See ``_corrected``.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..common.rng import Stream, numpy_stream
from .frechet import FeatureSet, frechet_parts
from .hypothesis import (
    COMPARED_PAIRS,
    SET_WORDS,
    Difference,
    HypothesisResult,
    ThesisStatistic,
)
from .intervals import interval_of_halves
from .protocol import PAIRS, SETS
from .scores import MIN_PATIENTS, FeatureSample


def judge_hypothesis(
    distances: pd.DataFrame, samples: Mapping[str, FeatureSample], draws: int, seed: int
) -> HypothesisResult:
    """Test the hypothesis on samples of the four sets.

    Args:
        distances: columns iteration, pair and distance, as ``protocol.compare_sets`` yields; they
            describe, and decide nothing.
        samples: real test and generated images under "RN", "RP", "FN" and "FP".
        draws: number of halves that the intervals rest on.
        seed: seed of the halves.
    """
    thesis = thesis_statistic(distances)
    for name, sample in samples.items():
        if sample.patients.count < MIN_PATIENTS:
            reason = (
                f"the {SET_WORDS[name]} images are of {sample.patients.count} patients, and "
                f"{MIN_PATIENTS} or more are needed"
            )
            return HypothesisResult((), 0, thesis, reason)
    n = min(sample.patients.count for sample in samples.values()) // 2
    return HypothesisResult(measure_differences(samples, draws, seed), n, thesis)


def thesis_statistic(distances: pd.DataFrame) -> ThesisStatistic:
    """Compute the thesis's evidence from the draws of ``protocol.compare_sets``.

    Args:
        distances: columns iteration, pair and distance.
    """
    table = distances.pivot(index="iteration", columns="pair", values="distance")
    same = table[[pair for pair, kind in PAIRS.items() if kind == "same"]]
    different = table[[pair for pair, kind in PAIRS.items() if kind == "different"]]
    largest, smallest = same.mean(), different.mean()
    return ThesisStatistic(
        largest_same=str(largest.idxmax()),
        largest_same_mean=float(largest.max()),
        smallest_different=str(smallest.idxmin()),
        smallest_different_mean=float(smallest.min()),
        share=float((same.max(axis=1) < different.min(axis=1)).mean()),
    )


def measure_differences(
    samples: Mapping[str, FeatureSample], draws: int, seed: int
) -> tuple[Difference, ...]:
    """Measure the differences of ``hypothesis.COMPARED_PAIRS`` with their intervals.

    Of each patient one image is used, and of each set as many patients. Else sets with several
    images of a patient would be less varied than generated ones, and distances between two of them
    more biased.

    Args:
        samples: real and generated images under "RN", "RP", "FN" and "FP", of two patients or more.
        draws: number of halves.
        seed: seed of the halves.
    """
    rng = numpy_stream(Stream.HYPOTHESIS, seed)
    patients = min(sample.patients.count for sample in samples.values())
    features = {
        name: samples[name].features[samples[name].patients.one_image_each(patients, rng)]
        for name in SETS
    }
    rows = []
    for _ in range(draws):
        # Halve each set and compute the bias of its distances from both halves.
        half, bias = {}, {}
        for name, whole in features.items():
            parts = np.split(rng.permutation(patients)[: patients // 2 * 2], 2)
            half[name], other = (FeatureSet(whole[indices]) for indices in parts)
            bias[name] = frechet_parts(half[name], other)
        # Compare the first halves.
        distance = {}
        for pair in sorted({pair for pairs in COMPARED_PAIRS for pair in pairs}):
            first, second = pair.split("x")
            found = frechet_parts(half[first], half[second])
            distance[pair] = _corrected(found, bias[first], bias[second])
        rows.append([distance[different] - distance[same] for same, different in COMPARED_PAIRS])
    # Each column holds the scores of one difference.
    differences = []
    for pairs, scores in zip(COMPARED_PAIRS, np.array(rows).T, strict=True):
        value = float(scores.mean())
        interval = interval_of_halves(value, scores, patients)
        differences.append(Difference(*pairs, value, interval.low, interval.high))
    return tuple(differences)


def _corrected(
    distance: tuple[float, float], first: tuple[float, float], second: tuple[float, float]
) -> float:
    """Remove the bias of few images from a distance; the result may be below 0.

    With n images of each set, E|m1 - m2|^2 exceeds the true value by (tr S1 + tr S2) / n, half of
    what it is within each set. Where S2 = s^2 S1, the bias of the covariances' part is s times that
    within the first set: the geometric mean of both sets' own. For other shapes it is near it.

    Args:
        distance: parts of the distance between two sets, of the means and of the covariances.
        first: parts of the distance between disjoint halves of the first set.
        second: parts of the distance between disjoint halves of the second set.
    """
    means = distance[0] - (first[0] + second[0]) / 2
    return means + distance[1] - float(np.sqrt(first[1] * second[1]))
