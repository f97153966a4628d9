"""Patients of images, and random draws of images by whole patients.

Images of one patient are alike, so the sampling unit is the patient. A bootstrap would repeat
images, which biases a distance between distributions. Draws without repetition do not have that
bias.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UserError

# Kaggle names normal images IM-0115-0001 or NORMAL2-IM-0587-0001-0002, and pneumonia images
# person123_bacteria_456; Mendeley's later version has NORMAL-1049278-0001, BACTERIA-..., VIRUS-...
_DASHED = re.compile(
    r"^(?P<prefix>IM-|NORMAL2-IM-|NORMAL-|BACTERIA-|VIRUS-)(?P<number>[0-9]+)(?:-[0-9]+)+$",
    re.IGNORECASE,
)

_PERSON = re.compile(r"^person(?P<number>[0-9]+)_(?P<cause>[A-Za-z]+)(?:_[0-9]+)+$", re.IGNORECASE)


def patient_of(file: str) -> str:
    """Return the patient's key for an image file's path, whose last part may state the patient.

    The number alone is not unique: ``person1_bacteria_1`` and ``person1_virus_6`` are different
    people. An image whose name is in no known form is a patient of its own, the path: a ``1.png``
    in another folder is another image.

    >>> patient_of("train/PNEUMONIA/person123_bacteria_456.jpeg"), patient_of("train/NORMAL/1.png")
    ('bacteria-123', 'train/NORMAL/1.png')
    """
    name = file.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    if match := _PERSON.match(stem):
        return f"{match['cause'].lower()}-{int(match['number'])}"
    if match := _DASHED.match(stem):
        return f"{match['prefix'].upper()}{int(match['number'])}"
    return file


def check_test_sizes(patients: Mapping[str, Patients], sample_size: int) -> None:
    """Refuse test images that are too few for the thesis's protocol.

    Args:
        patients: of the test images, by the name of a class or set.
        sample_size: images of each set in a draw.

    Raises:
        UserError: if a set is smaller than ``sample_size``, or of too few patients for a floor.
    """
    for name, part in patients.items():
        if len(part) < sample_size:
            raise UserError(
                f"fid.sample_size: {sample_size} is more than the {len(part)} test images of "
                f"{name}; set it lower"
            )
        if part.max_pair_size < 2:
            raise UserError(
                f"the {len(part)} test images of {name} are of too few patients for a floor"
            )


Indices = NDArray[np.int64]  # of images in a set, or numbers of patients


@dataclass(frozen=True)
class Patients:
    """Patients of a set of images, as a number for each image."""

    ids: Indices  # (n,)

    @classmethod
    def from_names(cls, names: Sequence[str]) -> Patients:
        """Number the patients of images by their names, in alphabetical order."""
        return cls(np.unique(np.asarray(names), return_inverse=True)[1])

    @classmethod
    def singletons(cls, images: int) -> Patients:
        """Give each of so many images a patient of its own, as for generated ones."""
        return cls(np.arange(images))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: Indices) -> Patients:
        """Return the patients of the images at ``indices``."""
        return Patients(self.ids[indices])

    @cached_property
    def count(self) -> int:
        """Number of different patients."""
        return len(np.unique(self.ids))

    @cached_property
    def _max_images(self) -> int:
        """Number of images of the patient who has the most images."""
        return int(np.bincount(self.ids).max())

    @property
    def largest_share(self) -> float:
        """Share of all images that the patient with the most images has, 0 to 1."""
        return self._max_images / len(self)

    @property
    def max_pair_size(self) -> int:
        """Maximum size for which two draws without a common patient are sure to exist."""
        return (len(self) - self._max_images) // 2

    def draw(self, size: int, rng: np.random.Generator) -> Indices:
        """Draw ``size`` images of random patients: all of each, except maybe of the last one."""
        return self._shuffled(rng)[:size]

    def half(self, rng: np.random.Generator) -> Indices:
        """Draw half of the images, by whole patients; the last patient may make it more."""
        order = self._shuffled(rng)
        return np.sort(order[: self._end(order, (len(self) + 1) // 2)])

    def one_image_each(self, size: int, rng: np.random.Generator) -> Indices:
        """Draw one random image of each of ``size`` random patients, or of all if they are less."""
        order = rng.permutation(len(self))
        firsts = np.unique(self.ids[order], return_index=True)[1]
        return rng.permutation(order[firsts])[:size]

    def half_of_patients(self, rng: np.random.Generator) -> Indices:
        """Draw the images of half of the patients, however many images those have."""
        patient = np.unique(self.ids, return_inverse=True)[1]
        chosen = rng.permutation(self.count) < (self.count + 1) // 2
        return np.flatnonzero(chosen[patient])

    def matched_halves(self, rng: np.random.Generator) -> tuple[Indices, Indices]:
        """Divide the images in two at random, by whole patients with as many images each.

        Patients are paired by their number of images, and of each pair one goes to either half. So
        the halves differ by at most one patient, and in images by at most those of one patient.

        Returns:
            indices of the images of both halves, ascending.

        Raises:
            ValueError: if there are fewer than two patients.
        """
        if self.count < 2:
            raise ValueError("images of two patients or more are needed")
        patient, counts = np.unique(self.ids, return_inverse=True, return_counts=True)[1:]
        mixed = rng.permutation(len(counts))
        order = mixed[np.argsort(counts[mixed], kind="stable")[::-1]]
        pairs = (len(order) + 1) // 2
        swapped = np.repeat(rng.integers(2, size=pairs), 2)[: len(order)]
        half = np.empty(len(order), dtype=np.int64)
        half[order] = (np.arange(len(order)) + swapped) % 2
        return np.flatnonzero(half[patient] == 0), np.flatnonzero(half[patient] == 1)

    def disjoint_pair(self, size: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        """Draw two random sets of ``size`` images that have no patient in common.

        Raises:
            ValueError: if ``size`` is not from 1 to ``max_pair_size``.
        """
        if not 1 <= size <= self.max_pair_size:
            raise ValueError(f"two draws of {size} images are too many for {len(self)}")
        order = self._shuffled(rng)
        end = self._end(order, size)
        return order[:size], order[end : end + size]

    def split(self, fraction: float, rng: np.random.Generator) -> tuple[Indices, Indices]:
        """Split the images at random into kept and held-out ones, by whole patients.

        Patients are taken in random order until they have ``fraction`` of the images, to the
        nearest whole patient. At least one patient is held out and at least one is kept.

        Returns:
            indices of the images that are kept and of those held out, ascending.

        Raises:
            ValueError: if there are fewer than two patients.
        """
        if self.count < 2:
            raise ValueError("images of two patients or more are needed")
        out = self._drawn(fraction, rng, self.count - 1)
        return np.setdiff1d(np.arange(len(self)), out), out

    def subset(self, fraction: float, rng: np.random.Generator) -> Indices:
        """Draw the images of random patients, one or more, who have ``fraction`` of all images."""
        return self._drawn(fraction, rng, self.count)

    def _drawn(self, fraction: float, rng: np.random.Generator, max_patients: int) -> Indices:
        """Draw the images of at most ``max_patients``, ``fraction`` of all images; ascending."""
        ids, counts = np.unique(self.ids, return_counts=True)
        order = rng.permutation(len(ids))
        reached = np.cumsum(counts[order]) - counts[order] / 2  # with half of the last patient
        number = max(int((reached < fraction * len(self)).sum()), 1)
        return np.flatnonzero(np.isin(self.ids, ids[order[: min(number, max_patients)]]))

    def _shuffled(self, rng: np.random.Generator) -> Indices:
        """Return the indices in random order, with those of a patient together."""
        rank = rng.permutation(int(self.ids.max()) + 1)[self.ids]
        return np.lexsort((rng.random(len(self)), rank))

    def _end(self, order: Indices, min_images: int) -> int:
        """Count the first ``min_images`` of an order and the rest of the last one's patient."""
        after = self.ids[order[min_images:]] != self.ids[order[min_images - 1]]
        return min_images + (int(after.argmax()) if after.any() else len(after))
