"""Verdict on whether generated images improve a classifier."""

from dataclasses import dataclass

import pandas as pd

from ..metrics.intervals import CONFIDENCE
from .runs import REAL_AND_BOTH


@dataclass(frozen=True)
class UtilityVerdict:
    """Whether generated images beat classical augmentation with all real images, in a sentence."""

    beaten: bool
    sentence: str


def judge_utility(differences: pd.DataFrame) -> UtilityVerdict:
    """Return the verdict, by ROC AUC.

    It uses the largest fraction of real images. The generators were trained on all of them, so
    smaller fractions do not show the worth of generated images where real ones are scarce.
    """
    # Select the comparisons with all real images; each counts at Bonferroni's level.
    table = differences[differences["metric"] == "roc_auc"]
    is_all = table["fraction"] == table["fraction"].max()
    all_real, fewer = table[is_all], table[~is_all]
    significant = all_real["p"] < (1 - CONFIDENCE) / len(all_real)
    better = all_real[(all_real["difference"] > 0) & significant]
    lower = int(((all_real["difference"] < 0) & significant).sum())

    # State the verdict, then the best change and the number of losses.
    best = (all_real if better.empty else better).nlargest(1, "difference").iloc[0]
    verdict = (
        "Generated images did not improve the classifier."
        if better.empty
        else f"Generated images improved the classifier in {len(better)} of {len(all_real)} ways."
    )
    way = "added to it, half of each batch" if best["arm"] == REAL_AND_BOTH else "instead of it"
    low, high = signed(best["low"]), signed(best["high"])
    sentence = (
        f"{verdict} Best change in ROC AUC over classical augmentation: "
        f"{signed(best['difference'])} (95 % CI {low} to {high}, {best['network']}, {way}, "
        "all real images but those of the validation). The change is significantly negative in "
        f"{lower} of {len(all_real)} comparisons. The generators saw all real train images."
    )
    if len(fewer):
        by_chance = len(fewer) * (1 - CONFIDENCE) / 2
        sentence += (
            f" With fewer real images the ROC AUC is higher in {int((fewer['low'] > 0).sum())} and "
            f"lower in {int((fewer['high'] < 0).sum())} of {len(fewer)} comparisons (expected by "
            f"chance: {by_chance:.1f} each)."
        )
    return UtilityVerdict(not better.empty, sentence)


def signed(value: float) -> str:
    """Format a difference with its sign and three decimals; a rounded zero has no sign."""
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text
