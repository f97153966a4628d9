"""Confidence intervals of scores, by draws of whole patients without repetition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from ..data.patients import Indices, Patients

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """95 % confidence interval of the expected score; patients are the sampling unit."""

    standard_error: float
    low: float
    high: float


def jackknife_interval(
    value: float,
    statistic: Callable[[Indices, Indices], float],
    first: Patients,
    second: Patients,
    draws: int,
    rng: np.random.Generator,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Compute the interval of a score of two sets by the spread of the scores of their halves.

    Half of a set without repetition differs from the set about as much as the set from its
    distribution. So the standard deviation over halves is the standard error of the score of the
    sets. This is the delete-d jackknife (Shao and Wu, 1989) with d = n / 2, which also holds for
    scores that are not smooth. Only the spread is used, so a bias that depends on n does not
    matter. The number of patients bounds Student's degrees of freedom. A patient with a large share
    of the images would be in nearly every half, and the halves would differ too little: see
    ``Patients.largest_share``.

    Args:
        value: the score of the whole sets.
        statistic: function of indices into the first and the second set, which returns a score.
        first: patients of the first set, two or more.
        second: patients of the second set, two or more.
        draws: number of halves to score.
        rng: generator that draws the halves.
        bounds: minimum and maximum that the score can take.
    """
    scores = [statistic(first.half(rng), second.half(rng)) for _ in range(draws)]
    patients = min(first.count, second.count)
    return interval_of_halves(value, scores, patients, bounds)


def interval_of_halves(
    value: float,
    scores: Sequence[float] | NDArray[np.float64],
    patients: int,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    share: float = 1.0,
) -> Interval:
    """Compute the interval of a score from the scores of random halves.

    Args:
        value: the score.
        scores: the scores of two or more halves.
        patients: patients of the set that has the fewest, two or more.
        bounds: minimum and maximum that the score can take.
        share: share of the images that the halves are halves of. The standard error of all falls
            with the root of their number.
    """
    freedom = min(len(scores), patients) - 1
    error = float(np.std(scores, ddof=1)) * share**0.5
    return interval_around(value, error, freedom, bounds)


def interval_around(
    value: float,
    error: float,
    freedom: int,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Compute the interval of a score from its standard error and Student's degrees of freedom."""
    half_width = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    low, high = (float(np.clip(edge, *bounds)) for edge in (value - half_width, value + half_width))
    return Interval(error, low, high)
