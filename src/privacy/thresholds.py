"""When an image counts as near to a train image, and how sure a count of near images is."""

from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from .neighbours import Nearest, Vector

POWER = 0.8  # with which the smallest detectable share of copies would be noticed
DEPENDENCE = 2  # images of the baseline that count as one, see ``Baseline``


@dataclass(frozen=True)
class Baseline:
    """Real images of other patients, and how many of them are below the threshold.

    Train images are each other's neighbours: where one is near to another, that one mostly is near
    to it as well. Counted as independent they would give several times the false alarms that the
    level states, so two of them count as one.
    """

    images: int
    below: int

    @classmethod
    def of_train(cls, images: int, below: int) -> "Baseline":
        """Of train images, one of each patient."""
        counted = images // DEPENDENCE
        return cls(counted, min(-(-below // DEPENDENCE), counted))

    def joined(self, images: int, below: int) -> "Baseline":
        """With images that are independent."""
        return Baseline(self.images + images, self.below + below)


@dataclass(frozen=True)
class Limits:
    """What makes an image near to a train image, in one space."""

    threshold: float  # of the ratio, see ``neighbours``
    reach: float  # a distance beyond it is far, whatever the ratio

    @classmethod
    def of_train(cls, nearest: Nearest, quantile: float) -> "Limits":
        """From train images, one of each patient, to other patients' ones."""
        reach = float(np.median(nearest.distance))
        ratios = nearness(nearest, reach)
        return cls(float(np.quantile(ratios, quantile, method="inverted_cdf")), reach)

    def near(self, nearest: Nearest) -> NDArray[np.bool_]:
        """Which images are near, (n,)."""
        return nearness(nearest, self.reach) <= self.threshold


@dataclass(frozen=True)
class Caught:
    """How many of some images the test takes for copies."""

    images: int
    below: int  # of them, nearer to a train image than the threshold
    p: float  # chance of so many or more if they were like real images of other patients

    @property
    def share(self) -> float:
        """Of the images that are below the threshold."""
        return self.below / self.images


def nearness(nearest: Nearest, reach: float) -> Vector:
    """The ratio of each image that is within reach of its nearest train image, else infinite."""
    return np.where(nearest.distance <= reach, nearest.ratio, np.inf)


def fisher(below: int, images: int, base: Baseline) -> float:
    """One-sided p of Fisher's exact test that a share is no larger than the baseline's."""
    table = [[below, images - below], [base.below, base.images - base.below]]
    return float(scipy.stats.fisher_exact(table, alternative="greater").pvalue)


def detectable_share(caught: float, images: int, base: Baseline, level: float) -> float | None:
    """The smallest share of copies that the test would notice with a chance of ``POWER``.

    As if no image but a copy were below the threshold, which is so for many generators.

    Args:
        caught: share of such copies that lie below the threshold.
        images: generated ones.
        base: what they are held against.
        level: at which the test calls copies.

    Returns:
        None if no share is enough.
    """
    needed = next((k for k in range(images + 1) if fisher(k, images, base) < level), None)
    if not needed:
        return None
    # The chance of ``needed`` or more of binomial counts is the beta distribution's.
    share = float(scipy.stats.beta.ppf(POWER, needed, images - needed + 1))
    if caught <= base.below / base.images:
        return None
    return share / caught if share <= caught else None
