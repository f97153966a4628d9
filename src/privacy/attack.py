"""A black-box membership inference attack (Hilprecht et al., 2019), with DeLong's interval."""

from dataclasses import dataclass

import numpy as np
import scipy.stats
from sklearn.metrics import roc_auc_score

from ..metrics.intervals import CONFIDENCE, Interval
from .neighbours import Images, Space, Vector, least_distances


@dataclass(frozen=True)
class Attack:
    """A membership inference attack: area under its curve; 0.5 is a guess."""

    auc: float
    interval: Interval
    members: int
    others: int


def run_attack(
    published: Space, members: tuple[Images, Vector], others: tuple[Images, Vector]
) -> Attack:
    """Guess who was trained on, from images that were published.

    The nearer an image is to a published one, compared with train images of other patients, the
    more likely it was trained on.

    Args:
        published: what the attacker has.
        members: images that were trained on, and each one's distance to the nearest train image of
            another patient.
        others: the same of images that were not.
    """
    # Where the nearest published image is the nearest of all, the score is 0: a tie, which rounding
    # keeps, since the last digits of distances depend on how many are computed at once.
    scores = [
        -np.log(
            np.maximum(least_distances(published, images), 1e-6) / np.maximum(near, 1e-6)
        ).round(4)
        for images, near in (members, others)
    ]
    auc, interval = roc_auc(*scores)
    return Attack(auc, interval, len(members[0]), len(others[0]))


def roc_auc(positive: Vector, negative: Vector) -> tuple[float, Interval]:
    """Compute the area under the ROC curve, with DeLong's interval (DeLong et al., 1988).

    Args:
        positive: scores of those that should be high, two or more.
        negative: of the others, two or more.
    """
    m, n = len(positive), len(negative)
    scores = np.concatenate([positive, negative])
    auc = float(roc_auc_score(np.repeat([1, 0], [m, n]), scores))
    # Of each score, the share of the other side that it beats; ties count half.
    ranks = scipy.stats.rankdata(scores)
    wins = (ranks[:m] - scipy.stats.rankdata(positive)) / n
    losses = 1 - (ranks[m:] - scipy.stats.rankdata(negative)) / m
    error = float(np.sqrt(wins.var(ddof=1) / m + losses.var(ddof=1) / n))
    half_width = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)) * error
    return auc, Interval(error, max(auc - half_width, 0.0), min(auc + half_width, 1.0))


def excess_z(attack: Attack, control: Attack) -> float:
    """How many standard errors an attack lies above a guess and above its control.

    The control's error counts only where the control lies above a guess, which has none.
    """
    error = attack.interval.standard_error
    if control.auc > 0.5:
        error = float(np.hypot(error, control.interval.standard_error))
    return (attack.auc - max(0.5, control.auc)) / max(error, 1e-12)
