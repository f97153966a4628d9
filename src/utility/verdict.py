"""The verdict on whether generated images help a classifier."""

from dataclasses import dataclass

import pandas as pd

from ..metrics.intervals import CONFIDENCE
from .trials import TOGETHER


@dataclass(frozen=True)
class Verdict:
    """Whether generated images beat classical augmentation with all real images, and how far."""

    beaten: bool
    sentence: str


def judge(differences: pd.DataFrame) -> Verdict:
    """The verdict, by ROC AUC.

    It rests on the largest share of real images: the generators have learnt from all of them, so
    fewer show nothing of how much generated images are worth where real ones are scarce.
    """
    table = differences[differences["metric"] == "roc_auc"]
    most = table["fraction"].max()
    whole, fewer = (table[(table["fraction"] == most) == same] for same in (True, False))
    # Several comparisons: each must be surer of itself (Bonferroni).
    sure = whole["p"] < (1 - CONFIDENCE) / len(whole)
    better = whole[(whole["difference"] > 0) & sure]
    lower = int(((whole["difference"] < 0) & sure).sum())
    shown = (whole if better.empty else better).nlargest(1, "difference").iloc[0]
    outcome = "not beaten" if better.empty else f"beaten in {len(better)} of {len(whole)} ways"
    way = "added to it, half of each batch," if shown["arm"] == TOGETHER else "in its place"
    at_best = "at best " if better.empty else ""
    sentence = (
        f"With all real train images but those of the validation, which the generators saw too, "
        f"classical augmentation was {outcome}: {at_best}"
        f"generated images {way} move the area under the ROC curve by {shown['difference']:+.3f} "
        f"(95 % interval {shown['low']:+.3f} to {shown['high']:+.3f}; {shown['network']}); "
        f"in {lower} of {len(whole)} comparisons they surely lower it."
    )
    if len(fewer):
        by_chance = len(fewer) * (1 - CONFIDENCE) / 2
        sentence += (
            f" With fewer real images, where the generators had learnt from all of them, it is "
            f"higher in {int((fewer['low'] > 0).sum())} and lower in "
            f"{int((fewer['high'] < 0).sum())} of {len(fewer)} (chance alone gives "
            f"{by_chance:.1f} of each)."
        )
    return Verdict(not better.empty, sentence)
