"""Scores of the classifiers with intervals, and GAN-train and GAN-test accuracies."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
    roc_curve,
)

from ..common.rng import Stream, numpy_stream
from ..config.utility import UtilitySettings
from ..data.classes import CLASSES
from ..data.dataset import ImageSet
from ..data.patients import Indices
from ..metrics.intervals import CONFIDENCE
from .classifiers import NETWORKS, Logits
from .runs import BASELINE, CHALLENGERS, RunResult, UtilitySets, min_patients_of_classes

BINS = 10  # of the calibration error
SPECIFICITY = 0.95  # at which the sensitivity is computed
Labels = NDArray[np.bool_]


def roc_auc(is_pneumonia: Labels, logits: Logits) -> float:
    """Compute the area under the ROC curve."""
    return float(roc_auc_score(is_pneumonia, logits))


def average_precision(is_pneumonia: Labels, logits: Logits) -> float:
    """Compute the average precision, the area under the precision-recall curve (AUPRC).

    PNEUMONIA is the positive class. Chance has the prevalence of PNEUMONIA.
    """
    return float(average_precision_score(is_pneumonia, logits))


def balanced_accuracy(is_pneumonia: Labels, logits: Logits) -> float:
    """Compute the mean of sensitivity and specificity; a logit above 0 is pneumonia."""
    return float(balanced_accuracy_score(is_pneumonia, logits > 0))


def sensitivity(is_pneumonia: Labels, logits: Logits) -> float:
    """Compute the largest sensitivity at a specificity of ``SPECIFICITY`` or more."""
    false_positives, true_positives, _ = roc_curve(is_pneumonia, logits, drop_intermediate=False)
    return float(true_positives[false_positives <= 1 - SPECIFICITY + 1e-9].max())


def calibration_error(is_pneumonia: Labels, logits: Logits) -> float:
    """Compute the class-balanced expected calibration error (Naeini et al., 2015).

    The networks' probabilities assume the same prevalence of each class, whatever the share of
    pneumonia in the test split.
    """
    weight = np.where(is_pneumonia, 0.5 / is_pneumonia.sum(), 0.5 / (~is_pneumonia).sum())
    return _calibration_error(is_pneumonia, logits, weight)


def prior_corrected_calibration_error(is_pneumonia: Labels, logits: Logits) -> float:
    """Compute the expected calibration error at the prevalence of the images.

    The log odds of that prevalence are added to the logits, which assume one of a half (Saerens et
    al., 2002). Where it is a half, this is ``calibration_error``.
    """
    prevalence = is_pneumonia.mean()
    weight = np.full(len(logits), 1 / len(logits))
    return _calibration_error(is_pneumonia, logits + np.log(prevalence / (1 - prevalence)), weight)


def _calibration_error(is_pneumonia: Labels, logits: Logits, weight: NDArray[np.float64]) -> float:
    """Compute the sum over bins of the gap between probability and outcome, of weighted images."""
    probability = 1 / (1 + np.exp(-logits))
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weight * (probability - is_pneumonia), minlength=BINS)
    return float(np.abs(gaps).sum())


# Logits are of a training whose loss sees the same prevalence of each class, or are shifted to it.
CLASSIFIER_SCORES: dict[str, Callable[[Labels, Logits], float]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "balanced_accuracy": balanced_accuracy,
    "sensitivity": sensitivity,
    "calibration_error": calibration_error,
    "prior_corrected_calibration_error": prior_corrected_calibration_error,
}
RepeatedLogits = Mapping[tuple[str, str, float], Sequence[Logits]]  # by network, arm and fraction


def summarize(
    results: Sequence[RunResult], test: ImageSet, settings: UtilitySettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute the scores of all arms, and the differences of the challengers from the baseline.

    Returns:
        scores and differences, as ``summarize_logits``.
    """
    logits: dict[tuple[str, str, float], list[Logits]] = {}
    for result in results:
        run = result.run
        logits.setdefault((run.network, run.arm, run.fraction), []).append(result.test)
    return summarize_logits(logits, test, settings, BASELINE, CHALLENGERS)


def summarize_logits(
    logits: RepeatedLogits,
    test: ImageSet,
    settings: UtilitySettings,
    baseline: str,
    challengers: Collection[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute the scores of groups of trainings, and the challengers' differences from a baseline.

    An interval covers two sources of variance: the patients of the test split, by scores of random
    halves of them, and the images, weights and order of a training, by its repeats. It uses
    Satterthwaite's degrees of freedom (1946).

    Args:
        logits: of the test images, for each repeat; the repeats of all groups correspond.
        test: the test images.
        settings: number and seed of the halves.
        baseline: arm that the challengers are compared with, by network and fraction.
        challengers: arms that are compared.

    Returns:
        scores: network, arm, fraction, metric, value, standard_error, low, high;
        differences: network, arm, fraction, metric, difference, standard_error, low, high, and p,
        two-sided, of no difference.
    """
    halves = _halves(test, settings)
    patients = min_patients_of_classes(test, "test")
    all_images = np.arange(len(test))
    # Compute each score with its interval.
    rows, differences = [], []
    for metric, score in CLASSIFIER_SCORES.items():
        # Values by repeat and part of the test set: all images, then the halves.
        table = {
            group: np.array(
                [
                    [score(test.is_pneumonia[part], each[part]) for part in (all_images, *halves)]
                    for each in repeats
                ]
            )
            for group, repeats in logits.items()
        }
        for (network, arm, fraction), values in table.items():
            row_keys = {"network": network, "arm": arm, "fraction": fraction, "metric": metric}
            interval = _interval(values, patients)
            del interval["p"]
            interval |= {edge: float(np.clip(interval[edge], 0, 1)) for edge in ("low", "high")}
            rows.append(row_keys | {"value": float(values[:, 0].mean())} | interval)
            if arm in challengers:
                gap = values - table[network, baseline, fraction]
                differences.append(
                    row_keys | {"difference": float(gap[:, 0].mean())} | _interval(gap, patients)
                )
    return pd.DataFrame(rows), pd.DataFrame(differences)


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm, 1979).

    Returns:
        in the same order, the smallest level at which the comparison of each is significant.
    """
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p)[order] * factors), 1)
    return [float(value) for value in corrected]


def _halves(test: ImageSet, settings: UtilitySettings) -> list[Indices]:
    """Draw random halves of the test set's patients, of each class, as image indices."""
    rng = numpy_stream(Stream.UTILITY_HALVES, settings.seed)
    classes = [test.class_indices(label) for label in CLASSES]
    return [
        np.concatenate([rows[test.patients.take(rows).half_of_patients(rng)] for rows in classes])
        for _ in range(settings.resamples)
    ]


def _interval(values: NDArray[np.float64], patients: int) -> dict[str, float]:
    """Compute the interval of the mean over repeats from values (repeats, 1 + halves).

    The number of patients bounds the degrees of freedom of the halves.
    """
    repeats, draws = values.shape[0], values.shape[1] - 1
    by_training = float(values[:, 0].var(ddof=1)) / repeats
    by_patients = float(values[:, 1:].mean(axis=0).var(ddof=1))
    error = float(np.sqrt(by_training + by_patients))
    freedom = 1.0
    if error > 0:
        parts = by_training**2 / (repeats - 1) + by_patients**2 / (min(draws, patients) - 1)
        freedom = error**4 / parts
    half_width = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    value = float(values[:, 0].mean())
    p = 2 * float(scipy.stats.t.sf(abs(value) / error, freedom)) if error > 0 else 1.0
    return {"standard_error": error, "low": value - half_width, "high": value + half_width, "p": p}


def gan_accuracies(results: Sequence[RunResult], sets: UtilitySets) -> dict[str, dict[str, float]]:
    """Compute GAN-train and GAN-test (Shmelkov et al., 2018) of each network.

    Both are balanced accuracies. GAN-train is that of classifiers trained on generated images
    alone, on real test images. GAN-test is that of classifiers trained on all real images, on
    generated images; "real" is theirs on real test images.
    """
    accuracies: dict[str, dict[str, float]] = {}
    for network in NETWORKS:
        of_generated = [o for o in results if (o.run.network, o.run.arm) == (network, "generated")]
        real = [o for o in results if (o.run.network, o.run.arm) == (network, "real")]
        max_fraction = max(o.run.fraction for o in real)
        of_real = [o for o in real if o.run.fraction == max_fraction]
        accuracies[network] = {
            "gan_train": _mean(sets.test, [o.test for o in of_generated]),
            "gan_test": _mean(sets.unseen, [o.generated for o in of_real]),
            "real": _mean(sets.test, [o.test for o in of_real]),
        }
    return accuracies


def _mean(images: ImageSet, logits: Sequence[Logits]) -> float:
    """Compute the mean balanced accuracy of several classifiers on the same images."""
    return float(np.mean([balanced_accuracy(images.is_pneumonia, each) for each in logits]))
