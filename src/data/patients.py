"""Which patient an image shows, and random draws of images by whole patients.

Images of one patient are alike, so patients and not images are what is drawn. A bootstrap would
repeat images, which a distance of distributions takes for structure; parts without repetition do
not have that bias.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Kaggle names normal images IM-0115-0001 or NORMAL2-IM-0587-0001-0002, and pneumonia images
# person123_bacteria_456; Mendeley's later version has NORMAL-1049278-0001, BACTERIA-..., VIRUS-...
_DASHED = re.compile(
    r"^(?P<prefix>IM-|NORMAL2-IM-|NORMAL-|BACTERIA-|VIRUS-)(?P<number>[0-9]+)(?:-[0-9]+)+$",
    re.IGNORECASE,
)

_PERSON = re.compile(r"^person(?P<number>[0-9]+)_(?P<cause>[A-Za-z]+)(?:_[0-9]+)+$", re.IGNORECASE)


def patient_of(name: str) -> str:
    """The patient's key for an image file's name (without folders).

    The number alone does not do: ``person1_bacteria_1`` and ``person1_virus_6`` are different
    people. A name in no known form is a patient of its own.

    >>> patient_of("person123_bacteria_456.jpeg"), patient_of("NORMAL2-IM-0587-0001-0002.jpeg")
    ('bacteria-123', 'NORMAL2-IM-587')
    """
    stem = _stem(name)
    if match := _PERSON.match(stem):
        return f"{match['cause'].lower()}-{int(match['number'])}"
    if match := _DASHED.match(stem):
        return f"{match['prefix'].upper()}{int(match['number'])}"
    return stem


def names_a_patient(name: str) -> bool:
    """Whether an image file's name (without folders) has a known form."""
    return bool(_PERSON.match(_stem(name)) or _DASHED.match(_stem(name)))


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


Places = NDArray[np.int64]


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
