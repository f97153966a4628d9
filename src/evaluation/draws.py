"""Random draws of images by whole patients, without repetition, and what they tell of a score.

Images of one patient are alike, so patients and not images are what is drawn. A bootstrap would
repeat images, which a distance of distributions takes for structure; parts without repetition do
not have that bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.stats
from numpy.typing import NDArray

Places = NDArray[np.int64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Patients:
    """The patient of each image of a set, as a number, (n,)."""

    numbers: Places

    @classmethod
    def named(cls, names: Sequence[str]) -> "Patients":
        """From the patient of each image."""
        return cls(np.unique(np.asarray(names), return_inverse=True)[1])

    @classmethod
    def strangers(cls, images: int) -> "Patients":
        """Of images that are each taken for a patient's only one, as generated ones are."""
        return cls(np.arange(images))

    def __len__(self) -> int:
        return len(self.numbers)

    def of(self, rows: Places) -> "Patients":
        """Of the images at some places."""
        return Patients(self.numbers[rows])

    @cached_property
    def count(self) -> int:
        """How many patients there are."""
        return len(np.unique(self.numbers))

    @cached_property
    def _most(self) -> int:
        """Images of the patient who has most."""
        return int(np.bincount(self.numbers).max())

    @property
    def largest_share(self) -> float:
        """Of all images, those of the patient who has most."""
        return self._most / len(self)

    @property
    def largest_pair(self) -> int:
        """Images of each of two draws that surely exist side by side without a common patient."""
        return (len(self) - self._most) // 2

    def draw(self, size: int, rng: np.random.Generator) -> Places:
        """So many images of random patients, all of each but maybe the last one."""
        return self._shuffled(rng)[:size]

    def half(self, rng: np.random.Generator) -> Places:
        """Half of the images, those of random patients; of the last one maybe more."""
        order = self._shuffled(rng)
        return np.sort(order[: self._end(order, (len(self) + 1) // 2)])

    def half_of_patients(self, rng: np.random.Generator) -> Places:
        """The images of half of the patients, however many those are."""
        patient = np.unique(self.numbers, return_inverse=True)[1]
        chosen = rng.permutation(self.count) < (self.count + 1) // 2
        return np.flatnonzero(chosen[patient])

    def pair(self, size: int, rng: np.random.Generator) -> tuple[Places, Places]:
        """Two random draws of ``size`` images that have no patient in common.

        Raises:
            ValueError: if there are not surely so many.
        """
        if not 1 <= size <= self.largest_pair:
            raise ValueError(f"two draws of {size} images are too many for {len(self)}")
        order = self._shuffled(rng)
        end = self._end(order, size)
        return order[:size], order[end : end + size]

    def _shuffled(self, rng: np.random.Generator) -> Places:
        """The images in random order, those of a patient together."""
        rank = rng.permutation(int(self.numbers.max()) + 1)[self.numbers]
        return np.lexsort((rng.random(len(self)), rank))

    def _end(self, order: Places, least: int) -> int:
        """Behind the first ``least`` images of an order and the rest of the last one's patient."""
        after = self.numbers[order[least:]] != self.numbers[order[least - 1]]
        return least + (int(after.argmax()) if after.any() else len(after))


@dataclass(frozen=True)
class Interval:
    """Made anew from other patients, 95 of 100 such intervals hold the score to be expected."""

    standard_error: float
    low: float
    high: float


def interval(
    value: float,
    statistic: Callable[[Places, Places], float],
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
