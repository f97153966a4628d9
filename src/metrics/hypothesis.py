"""Test of the thesis's hypothesis that same-class distances are below different-class ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command that prints the sentence starts without pandas
    import pandas as pd


@dataclass(frozen=True)
class HypothesisResult:
    """Whether the hypothesis holds, and the distances that decide it."""

    holds: bool
    largest_same: str  # pair with the largest same-class mean
    largest_same_mean: float
    smallest_different: str  # pair with the smallest different-class mean
    smallest_different_mean: float
    share: float  # of the iterations whose own distances support it, 0 to 1

    def sentence(self) -> str:
        """Return the result as a paragraph of two sentences."""
        return (
            f"The hypothesis {'holds' if self.holds else 'does not hold'}: the largest same-class "
            f"mean ({self.largest_same}, {self.largest_same_mean:.4g}) "
            f"{'lies' if self.holds else 'does not lie'} below the smallest different-class mean "
            f"({self.smallest_different}, {self.smallest_different_mean:.4g}). Judged alone, "
            f"{self.share:.0%} of the iterations support it."
        )


def judge_hypothesis(distances: pd.DataFrame) -> HypothesisResult:
    """Test the hypothesis on the distances of ``protocol.compare_sets``.

    Args:
        distances: columns iteration, pair and distance.
    """
    from .protocol import PAIRS

    table = distances.pivot(index="iteration", columns="pair", values="distance")
    same = table[[pair for pair, kind in PAIRS.items() if kind == "same"]]
    different = table[[pair for pair, kind in PAIRS.items() if kind == "different"]]
    largest, smallest = same.mean(), different.mean()
    return HypothesisResult(
        holds=bool(largest.max() < smallest.min()),
        largest_same=str(largest.idxmax()),
        largest_same_mean=float(largest.max()),
        smallest_different=str(smallest.idxmin()),
        smallest_different_mean=float(smallest.min()),
        share=float((same.max(axis=1) < different.min(axis=1)).mean()),
    )
