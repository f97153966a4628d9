"""The verdict on whether a generator copies, from the findings of every space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import scipy.stats

from ..config.privacy import PrivacySettings
from .attack import excess_z
from .copy_test import SpaceFindings
from .perturbations import DISTURBANCES
from .thresholds import POWER

Kind = Literal["copies", "no sign of copying", "can't tell"]


@dataclass(frozen=True)
class Verdict:
    """One sentence on a generator, and what it rests on."""

    kind: Kind
    sentence: str


def shared_level(settings: PrivacySettings, spaces: int) -> float:
    """The level of each space, so that more of them do not mean more false alarms."""
    return settings.significance_level / spaces


def judge(spaces: Mapping[str, SpaceFindings], settings: PrivacySettings) -> Verdict:
    """The verdict on one generator, from what every space tells.

    Copies that are found in a space whose held-out images pass are copies, whatever else fails;
    that none are found counts only where both controls hold.
    """
    level = shared_level(settings, len(spaces))
    failed = [name for name, part in spaces.items() if not part.passes(settings.significance_level)]
    copying = [
        name
        for name, part in spaces.items()
        if name not in failed and part.caught["generated"].p < level
    ]
    quantile = percent(settings.near_quantile)
    near = f"as near to a train image as the nearest {quantile} of other patients'"
    if copying:
        alike = min(spaces[name].copied for name in copying)
        return Verdict(
            "copies",
            f"Copies: {_shares(spaces, copying)} are {near} images. They are near to {alike} "
            "different train images.",
        )
    if failed:
        return Verdict(
            "can't tell",
            f"Can't tell: held-out real images are themselves taken for copies in "
            f"{' and '.join(failed)}, so the test does not hold on these data.",
        )
    blind = [
        name
        for name in DISTURBANCES
        if not any(part.catches(name, settings.detectable_fraction) for part in spaces.values())
    ]
    if blind:
        return Verdict(
            "can't tell",
            f"Can't tell: copies that are {' or '.join(blind)} would not be noticed among the "
            f"generated images, even if they were {percent(settings.detectable_fraction)} of them.",
        )
    leaks = [
        f"{name} {part.attack.auc:.2f}"
        for name, part in spaces.items()
        if excess_z(part.attack, part.attack_control) > float(scipy.stats.norm.isf(level))
    ]
    if leaks:
        return Verdict(
            "can't tell",
            f"Can't tell: no copies are found ({_shares(spaces, list(spaces))} are {near} images), "
            "but with the generated images train images are told from held-out ones better than "
            f"by guessing (area under the curve: {', '.join(leaks)}), and better than with other "
            "patients' images. Splits that differ may do that as well.",
        )
    least = max(
        min(part.detectable[name] or 1.0 for part in spaces.values()) for name in DISTURBANCES
    )
    return Verdict(
        "no sign of copying",
        f"No sign of copying: {_shares(spaces, list(spaces))} are {near} images. Copies, shifted, "
        f"brightened, compressed or mirrored, would be noticed with a chance of {percent(POWER)} "
        f"if they were {least:.1%} of the images.",
    )


def _shares(spaces: Mapping[str, SpaceFindings], names: Sequence[str]) -> str:
    """How many generated images are below the threshold, beside the held-out ones."""
    shares = ", ".join(
        f"{spaces[name].caught['generated'].share:.1%} in {name} (held-out real images: "
        f"{spaces[name].caught['held_out'].share:.1%})"
        for name in names
    )
    return f"of {spaces[names[0]].caught['generated'].images} generated images {shares}"


def percent(share: float) -> str:
    """A share as a person writes it: 1%, 0.5%."""
    return f"{100 * share:g}%"
