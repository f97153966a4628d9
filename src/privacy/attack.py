"""A black-box membership inference attack (Hilprecht et al., 2019), with DeLong's interval."""

from dataclasses import dataclass

import numpy as np
import scipy.stats
from sklearn.metrics import roc_auc_score

from ..metrics.intervals import CONFIDENCE, Interval
from .neighbours import Images, Space, Vector, least_distances


@dataclass(frozen=True)
class Attack:
    """Result of a membership inference attack; an AUC of 0.5 is chance."""

    auc: float  # area under the ROC curve
    interval: Interval
    members: int  # number of images that were trained on
    others: int  # number of images that were not


def run_attack(
    published: Space, members: tuple[Images, Vector], others: tuple[Images, Vector]
) -> Attack:
    """Infer which images were trained on from published images.

    The score of an image compares two distances: to the nearest published image, and to the
    nearest train image of another patient. The nearer the published image, the higher the score.

    Args:
        published: the space of the published images.
        members: images that were trained on, and their distances to the nearest train image of
            another patient.
        others: the same for images that were not trained on.
    """
    scores = [
        attack_score(least_distances(published, images), reference_distances)
        for images, reference_distances in (members, others)
    ]
    auc, interval = delong_roc_auc(*scores)
    return Attack(auc, interval, len(members[0]), len(others[0]))


def attack_score(distances: Vector, reference_distances: Vector) -> Vector:
    """Score images by how much nearer than their reference the published images are, (n,).

    Args:
        distances: of each image to the nearest published image, (n,).
        reference_distances: of each image to the nearest image of the reference, (n,).

    Returns:
        the difference of the negative logarithms; 0 where both distances are the same.
    """
    # Rounding keeps ties at a score of 0, where both distances are the same. The last digits of
    # distances depend on how many are computed at once.
    return -np.log(np.maximum(distances, 1e-6) / np.maximum(reference_distances, 1e-6)).round(4)


def delong_roc_auc(positive: Vector, negative: Vector) -> tuple[float, Interval]:
    """Compute the ROC AUC with DeLong's interval (DeLong et al., 1988).

    Args:
        positive: scores of the positives, two or more.
        negative: scores of the negatives, two or more.
    """
    auc, wins, losses = placements(positive, negative)
    m, n = len(positive), len(negative)
    error = float(np.sqrt(wins.var(ddof=1) / m + losses.var(ddof=1) / n))
    return auc, auc_interval(auc, error)


def placements(positive: Vector, negative: Vector) -> tuple[float, Vector, Vector]:
    """Compute the ROC AUC and what each score contributes to it; ties count half.

    Args:
        positive: scores of the positives, (m,).
        negative: scores of the negatives, (n,).

    Returns:
        the ROC AUC; for each positive the share of the negatives that it beats, (m,); and for each
        negative the share of the positives that beat it, (n,).
    """
    m, n = len(positive), len(negative)
    scores = np.concatenate([positive, negative])
    auc = float(roc_auc_score(np.repeat([1, 0], [m, n]), scores))
    ranks = scipy.stats.rankdata(scores)
    wins = (ranks[:m] - scipy.stats.rankdata(positive)) / n
    losses = 1 - (ranks[m:] - scipy.stats.rankdata(negative)) / m
    return auc, wins, losses


def auc_interval(auc: float, error: float) -> Interval:
    """Compute the normal interval of a ROC AUC from its standard error."""
    half_width = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)) * error
    return Interval(error, max(auc - half_width, 0.0), min(auc + half_width, 1.0))


def excess_z(attack: Attack, control: Attack) -> float:
    """Compute how many standard errors an attack lies above both chance and its control.

    The control's error counts only if the control lies above chance, which has no error.
    """
    error = attack.interval.standard_error
    if control.auc > 0.5:
        error = float(np.hypot(error, control.interval.standard_error))
    return (attack.auc - max(0.5, control.auc)) / max(error, 1e-12)
