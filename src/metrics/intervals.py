"""Confidence intervals of scores, from draws of whole patients without repetition."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.stats

from ..data.patients import Indices, Patients

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Made anew from other patients, 95 of 100 such intervals hold the score to be expected."""

    standard_error: float
    low: float
    high: float


def interval(
    value: float,
    statistic: Callable[[Indices, Indices], float],
    first: Patients,
    second: Patients,
    draws: int,
    rng: np.random.Generator,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """The interval of a score of two sets, from the spread of the scores of their halves.

    Half of a set without repetition differs from the whole about as much as the whole from its
    distribution, so the standard deviation over halves is the whole's standard error (the delete-d
    jackknife: Shao and Wu, 1989, with d = n / 2, which also holds for scores that are not smooth).
    A bias that depends on n does not matter, since only the spread is used. Halves tell no more
    than there are patients, so those bound Student's degrees of freedom. A patient with a large
    share of the images would be in nearly every half, which then differ too little: see
    ``Patients.largest_share``.

    Args:
        value: the score of the whole sets.
        statistic: the score of the images at some places of the first and of the second set.
        first: of the first set, two or more.
        second: of the second set, two or more.
        draws: how many halves to score.
        rng: draws them.
        bounds: the least and largest value that the score can take.
    """
    found = [statistic(first.half(rng), second.half(rng)) for _ in range(draws)]
    error = float(np.std(found, ddof=1))
    freedom = min(draws, first.count, second.count) - 1
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    low, high = (float(np.clip(edge, *bounds)) for edge in (value - reach, value + reach))
    return Interval(error, low, high)
