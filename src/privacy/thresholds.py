"""Thresholds of nearness to a train image, and the significance of a number of near images."""

from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from ..data.patients import Indices
from .neighbours import Nearest, Vector

POWER = 0.8  # of the test at the smallest detectable share of copies
DEPENDENCE = 2  # images of the baseline that count as one, see ``Baseline``


@dataclass(frozen=True)
class Baseline:
    """Numbers of real images of other patients, and of those that are near to a train image.

    Train images are each other's neighbours: if one is near to another, the reverse mostly holds as
    well. Counted as independent, they would give several times the false positives that the level
    states, so two of them count as one.
    """

    images: int
    near_images: int

    @classmethod
    def of_train(cls, images: int, near_images: int) -> "Baseline":
        """Return the baseline of train images, one image per patient."""
        counted = images // DEPENDENCE
        return cls(counted, min(-(-near_images // DEPENDENCE), counted))

    def joined(self, images: int, near_images: int) -> "Baseline":
        """Return the baseline together with independent images."""
        return Baseline(self.images + images, self.near_images + near_images)


@dataclass(frozen=True)
class CopyThresholds:
    """Thresholds below which an image is near to a train image, in one space."""

    max_ratio: float  # see ``neighbours``
    max_distance: float  # an image beyond it is not near, whatever its ratio
    min_distance: float  # generated images within it of each other count as one

    @classmethod
    def of_train(cls, nearest: Nearest, quantile: float) -> "CopyThresholds":
        """Compute thresholds from train images, one per patient, and other patients' images."""

        def lowest(values: Vector) -> float:
            return float(np.quantile(values, quantile, method="inverted_cdf"))

        max_distance = float(np.median(nearest.distance))
        ratios = nearness(nearest, max_distance)
        return cls(lowest(ratios), max_distance, lowest(nearest.distance))

    def near(self, nearest: Nearest) -> NDArray[np.bool_]:
        """Return which images are near, (n,)."""
        return nearness(nearest, self.max_distance) <= self.max_ratio


@dataclass(frozen=True)
class CopyTestResult:
    """Number of near images in a set, and the test of whether it exceeds the baseline."""

    images: int
    near_images: int
    p_value: float  # probability of as many or more near images without copying

    @property
    def share(self) -> float:
        """Share of the images that are near to a train image."""
        return self.near_images / self.images


def nearness(nearest: Nearest, max_distance: float) -> Vector:
    """Return the ratio of each image, infinite if it lies beyond ``max_distance``, (n,)."""
    return np.where(nearest.distance <= max_distance, nearest.ratio, np.inf)


def fisher(near_images: int, images: int, base: Baseline) -> float:
    """Compute the one-sided p-value of Fisher's exact test against the baseline's share."""
    table = [
        [near_images, images - near_images],
        [base.near_images, base.images - base.near_images],
    ]
    return float(scipy.stats.fisher_exact(table, alternative="greater").pvalue)


def grouped_fisher(sizes: Indices, is_near: NDArray[np.bool_], base: Baseline) -> float:
    """Compute the p-value of Fisher's test for images of which some repeat each other.

    The images of a group are near together, so a group is drawn as one image and counts as many.
    Without copying, any k of the groups and of the baseline's images are as likely to be the near
    ones. The p-value is the probability that their generated images are as many as were found.
    Where no image repeats another, it is that of Fisher's exact test.

    Args:
        sizes: images of each group, (g,).
        is_near: whether a group is near, (g,).
        base: the baseline of single images.
    """
    found, drawn = int(sizes[is_near].sum()), int(is_near.sum()) + base.near_images
    # Draw each group with the same probability, and keep that of each number of groups and images.
    chance = drawn / (len(sizes) + base.images)
    joint = np.zeros((drawn + 1, int(sizes.sum()) + 1))
    joint[0, 0] = 1.0
    for size in sizes:
        with_it = joint[:-1, :-size] * chance
        joint *= 1 - chance
        joint[1:, size:] += with_it
    groups = scipy.stats.hypergeom(len(sizes) + base.images, drawn, len(sizes))
    counts = np.arange(drawn + 1)
    tails, wholes = joint[:, found:].sum(axis=1), joint.sum(axis=1)
    shares = np.divide(tails, wholes, out=np.zeros_like(tails), where=wholes > 0)
    return float(min(1.0, groups.pmf(counts) @ shares))


def detectable_share(near_share: float, images: int, base: Baseline, level: float) -> float | None:
    """Compute the smallest share of copies that the test detects with probability ``POWER``.

    It assumes that no image but a copy is near, which holds for many generators.

    Args:
        near_share: share of such copies that are near.
        images: number of generated images.
        base: the baseline of the test.
        level: significance level of the test.

    Returns:
        the share, or None if no share is enough.
    """
    needed = next((k for k in range(images + 1) if fisher(k, images, base) < level), None)
    if not needed:
        return None
    # The binomial probability of ``needed`` or more is a beta distribution function of the share.
    share = float(scipy.stats.beta.ppf(POWER, needed, images - needed + 1))
    if near_share <= base.near_images / base.images:
        return None
    return share / near_share if share <= near_share else None
