"""Scores of the classifiers, their intervals, and GAN-train and GAN-test accuracies."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from ..common.rng import Stream, numpy_stream
from ..config.utility import UtilitySettings
from ..data.classes import CLASSES
from ..data.dataset import ImageSet
from ..data.patients import Indices
from ..metrics.intervals import CONFIDENCE
from .classifiers import NETWORKS, Logits
from .trials import BASELINE, CHALLENGERS, Exams, Outcome, check_patients

BINS = 10  # of the calibration error
SPECIFICITY = 0.95  # at which the sensitivity is stated
Labels = NDArray[np.bool_]


def area(is_pneumonia: Labels, logits: Logits) -> float:
    """Compute the area under the ROC curve."""
    return float(roc_auc_score(is_pneumonia, logits))


def balanced_accuracy(is_pneumonia: Labels, logits: Logits) -> float:
    """Compute the mean of sensitivity and specificity, where a logit above 0 says pneumonia."""
    return float(balanced_accuracy_score(is_pneumonia, logits > 0))


def sensitivity(is_pneumonia: Labels, logits: Logits) -> float:
    """Compute the largest sensitivity at a specificity of ``SPECIFICITY`` or more."""
    false_positives, true_positives, _ = roc_curve(is_pneumonia, logits, drop_intermediate=False)
    return float(true_positives[false_positives <= 1 - SPECIFICITY + 1e-9].max())


def calibration_error(is_pneumonia: Labels, logits: Logits) -> float:
    """The expected calibration error (Naeini et al., 2015), both classes weighing the same.

    The networks learn from as many images of each class, so that is what their probabilities are
    of, whatever the share of the sick in the test split.
    """
    weight = np.where(is_pneumonia, 0.5 / is_pneumonia.sum(), 0.5 / (~is_pneumonia).sum())
    probability = 1 / (1 + np.exp(-logits))
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weight * (probability - is_pneumonia), minlength=BINS)
    return float(np.abs(gaps).sum())


METRICS: dict[str, Callable[[Labels, Logits], float]] = {
    "roc_auc": area,
    "balanced_accuracy": balanced_accuracy,
    "sensitivity": sensitivity,
    "calibration_error": calibration_error,
}


def summarize(
    outcomes: Sequence[Outcome], test: ImageSet, settings: UtilitySettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of all arms, and how far the challengers are above the baseline.

    An interval joins two sources of chance: which patients the test split has (halves of them, as
    in ``draws.interval``), and which images, weights and order a training drew (its repeats), with
    Satterthwaite's degrees of freedom (1946).

    Returns:
        scores: network, arm, fraction, metric, value, standard_error, low, high;
        differences: network, arm, fraction, metric, difference, standard_error, low, high, and p,
        two-sided, of no difference.
    """
    logits: dict[tuple[str, str, float], list[Logits]] = {}
    for outcome in outcomes:
        trial = outcome.trial
        logits.setdefault((trial.network, trial.arm, trial.fraction), []).append(outcome.test)
    halves = _halves(test, settings)
    patients = check_patients(test, "test")
    whole = np.arange(len(test))
    rows, gaps = [], []
    for metric, score in METRICS.items():
        # By repeat and part of the test set: the whole one, then its halves.
        table = {
            place: np.array(
                [
                    [score(test.is_pneumonia[part], each[part]) for part in (whole, *halves)]
                    for each in of
                ]
            )
            for place, of in logits.items()
        }
        for (network, arm, fraction), found in table.items():
            place = {"network": network, "arm": arm, "fraction": fraction, "metric": metric}
            around = _interval(found, patients)
            del around["p"]
            around |= {edge: float(np.clip(around[edge], 0, 1)) for edge in ("low", "high")}
            rows.append(place | {"value": float(found[:, 0].mean())} | around)
            if arm in CHALLENGERS:
                gap = found - table[network, BASELINE, fraction]
                gaps.append(
                    place | {"difference": float(gap[:, 0].mean())} | _interval(gap, patients)
                )
    return pd.DataFrame(rows), pd.DataFrame(gaps)


def _halves(test: ImageSet, settings: UtilitySettings) -> list[Indices]:
    """Draw halves of the test set's patients, of each class."""
    rng = numpy_stream(Stream.UTILITY_HALVES, settings.seed)
    classes = [test.class_indices(label) for label in CLASSES]
    return [
        np.concatenate([rows[test.patients.take(rows).half_of_patients(rng)] for rows in classes])
        for _ in range(settings.resamples)
    ]


def _interval(found: NDArray[np.float64], patients: int) -> dict[str, float]:
    """The interval of the mean over repeats, (repeats, 1 + halves).

    Halves tell no more than there are patients, so those bound the degrees of freedom.
    """
    repeats, draws = found.shape[0], found.shape[1] - 1
    by_training = float(found[:, 0].var(ddof=1)) / repeats
    by_patients = float(found[:, 1:].mean(axis=0).var(ddof=1))
    error = float(np.sqrt(by_training + by_patients))
    freedom = 1.0
    if error > 0:
        parts = by_training**2 / (repeats - 1) + by_patients**2 / (min(draws, patients) - 1)
        freedom = error**4 / parts
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    value = float(found[:, 0].mean())
    p = 2 * float(scipy.stats.t.sf(abs(value) / error, freedom)) if error > 0 else 1.0
    return {"standard_error": error, "low": value - reach, "high": value + reach, "p": p}


def gan_accuracies(outcomes: Sequence[Outcome], exams: Exams) -> dict[str, dict[str, float]]:
    """GAN-train and GAN-test (Shmelkov et al., 2018) of each network, as balanced accuracies.

    GAN-train is that of classifiers that learnt from generated images alone, on real test images.
    GAN-test is that of classifiers that learnt from all real images, on generated ones; beside it
    stands theirs on real test images.
    """
    found: dict[str, dict[str, float]] = {}
    for network in NETWORKS:
        of_generated = [
            o for o in outcomes if (o.trial.network, o.trial.arm) == (network, "generated")
        ]
        real = [o for o in outcomes if (o.trial.network, o.trial.arm) == (network, "real")]
        most = max(o.trial.fraction for o in real)
        of_real = [o for o in real if o.trial.fraction == most]
        found[network] = {
            "gan_train": _mean(exams.test, [o.test for o in of_generated]),
            "gan_test": _mean(exams.unseen, [o.generated for o in of_real]),
            "real": _mean(exams.test, [o.test for o in of_real]),
        }
    return found


def _mean(images: ImageSet, logits: Sequence[Logits]) -> float:
    return float(np.mean([balanced_accuracy(images.is_pneumonia, each) for each in logits]))
