"""Verdict on whether a generator copies, from the findings of all spaces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import scipy.stats

from ..config.privacy import PrivacySettings
from .attack import excess_z
from .copy_test import SpaceFindings
from .perturbations import PERTURBATIONS
from .thresholds import POWER

Kind = Literal["copies", "no sign of copying", "can't tell"]


@dataclass(frozen=True)
class CopyVerdict:
    """Kind of a verdict on one generator, and its sentence."""

    kind: Kind
    sentence: str


def shared_level(settings: PrivacySettings, spaces: int) -> float:
    """Compute the Bonferroni level of each space, which keeps the false positive rate of all."""
    return settings.significance_level / spaces


def judge_copying(spaces: Mapping[str, SpaceFindings], settings: PrivacySettings) -> CopyVerdict:
    """Return the verdict on one generator.

    Copies that are detected in a space whose held-out images pass are copies, whatever else fails.
    "No sign of copying" requires that both controls hold.
    """
    # Find the spaces that fail their control, and those with copies.
    level = shared_level(settings, len(spaces))
    failed = [name for name, part in spaces.items() if not part.passes(settings.significance_level)]
    copying = [
        name
        for name, part in spaces.items()
        if name not in failed and part.results["generated"].p_value < level
    ]
    quantile = percent(settings.near_quantile)
    near = f"as near to a train image as the nearest {quantile} of other patients'"
    few = _repetition(spaces)
    if copying:
        alike = min(spaces[name].copied for name in copying)
        return CopyVerdict(
            "copies",
            f"Copies: {_shares(spaces, copying)} are {near} images. They are near to {alike} "
            f"different train images.{few}",
        )
    # Check both controls, then the attack.
    if failed:
        return CopyVerdict(
            "can't tell",
            f"Can't tell: held-out real images are themselves taken for copies in "
            f"{' and '.join(failed)}, so the test does not hold on these data.",
        )
    blind = [
        name
        for name in PERTURBATIONS
        if not any(part.catches(name, settings.detectable_fraction) for part in spaces.values())
    ]
    if blind:
        return CopyVerdict(
            "can't tell",
            f"Can't tell: copies that are {' or '.join(blind)} would not be detected among the "
            f"generated images, even if they were {percent(settings.detectable_fraction)} of them.",
        )
    leaks = [
        f"{name} {part.attack.auc:.2f}"
        for name, part in spaces.items()
        if excess_z(part.attack, part.attack_control) > float(scipy.stats.norm.isf(level))
    ]
    if leaks:
        return CopyVerdict(
            "can't tell",
            f"Can't tell: no copies are found, but a membership attack succeeds. The ROC AUC "
            f"of the attack ({', '.join(leaks)}) lies above chance and above an attack from other "
            "patients' images. Splits that differ may cause that as well. For copies: "
            f"{_shares(spaces, list(spaces))} are {near} images.{few}",
        )
    detectable = max(
        min(part.detectable[name] or 1.0 for part in spaces.values()) for name in PERTURBATIONS
    )
    return CopyVerdict(
        "no sign of copying",
        f"No sign of copying: {_shares(spaces, list(spaces))} are {near} images. Copies, shifted, "
        f"brightened, compressed or mirrored, would be detected with a probability of "
        f"{percent(POWER)} if they were {detectable:.1%} of the images.{few}",
    )


def _repetition(spaces: Mapping[str, SpaceFindings]) -> str:
    """Return a sentence, after a blank, if less than half of the generated images are distinct."""
    part = min(spaces.values(), key=lambda part: part.distinct)
    images = part.results["generated"].images
    if part.distinct * 2 >= images:
        return ""
    return (
        f" The generator draws the same few images: only {part.distinct} of these {images} are "
        "distinct."
    )


def _shares(spaces: Mapping[str, SpaceFindings], names: Sequence[str]) -> str:
    """Describe the shares of near images, generated and held-out."""
    shares = ", ".join(
        f"{spaces[name].results['generated'].share:.1%} in {name} (held-out real images: "
        f"{spaces[name].results['held_out'].share:.1%})"
        for name in names
    )
    return f"of {spaces[names[0]].results['generated'].images} generated images {shares}"


def percent(share: float) -> str:
    """Format a share as a percentage: 1%, 0.5%."""
    return f"{100 * share:g}%"
