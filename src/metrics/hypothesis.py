"""Result of the hypothesis test, in words; without the imports of the test itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Result = Literal["holds", "does not hold", "undecided"]
SET_WORDS = {
    "RN": "real NORMAL",
    "RP": "real PNEUMONIA",
    "FN": "generated NORMAL",
    "FP": "generated PNEUMONIA",
}
# Each same-class pair against each different-class pair with real images; both share one set.
COMPARED_PAIRS = tuple(
    (same, different) for same in ("RNxFN", "RPxFP") for different in ("RNxRP", "RNxFP", "RPxFN")
)
_NO_INTERVALS = "this record is of an older version, which computed no intervals"


@dataclass(frozen=True)
class Difference:
    """A different-class distance minus a same-class one, with its 95 % confidence interval."""

    same: str  # pair of sets
    different: str  # pair that shares one set with ``same``
    value: float
    low: float
    high: float

    @property
    def name(self) -> str:
        """Both pairs, as "RNxRP-RNxFN"."""
        return f"{self.different}-{self.same}"

    def statement(self, verb: str) -> str:
        """Return the difference in words, with ``verb`` before "nearer to"."""
        same, different = (set(pair.split("x")) for pair in (self.same, self.different))
        shared, near, far = (
            SET_WORDS[name]
            for part in (same & different, same - different, different - same)
            for name in part
        )
        return f"{shared} images {verb} nearer to {near} images than to {far} images"

    def numbers(self) -> str:
        """Return the difference and its interval as text."""
        return (
            f"{self.different} - {self.same} = {self.value:.3g}, "
            f"95 % interval {self.low:.3g} to {self.high:.3g}"
        )


@dataclass(frozen=True)
class ThesisStatistic:
    """The thesis's own evidence: means over its draws. It describes, and has no confidence."""

    largest_same: str  # pair with the largest same-class mean
    largest_same_mean: float
    smallest_different: str  # pair with the smallest different-class mean
    smallest_different_mean: float
    share: float  # of the draws in which every same-class distance is below the others, 0 to 1

    def sentence(self) -> str:
        """Return the share of the draws as a sentence."""
        return (
            f"In {self.share:.0%} of the draws both same-class distances are below all others; the "
            "draws share the real images, so this is no confidence."
        )


@dataclass(frozen=True)
class HypothesisResult:
    """Whether the hypothesis holds, the differences that decide it, and the thesis's evidence."""

    differences: tuple[Difference, ...]  # empty if none could be computed
    n: int  # images of each set in a distance
    thesis: ThesisStatistic
    reason: str = ""  # why there are no differences

    @property
    def result(self) -> Result:
        """The verdict: every difference must be above 0 beyond its interval.

        Each interval excludes a true value of 0 from below in 2.5 % of data sets. All of them must,
        so the hypothesis wrongly holds at most as often (intersection-union test; Berger, 1982).
        """
        if any(part.high < 0 for part in self.differences):
            return "does not hold"
        if self.differences and all(part.low > 0 for part in self.differences):
            return "holds"
        return "undecided"

    def sentence(self) -> str:
        """Return the verdict and its evidence as a paragraph."""
        return f"{self._verdict()} {self.thesis.sentence()}"

    def _verdict(self) -> str:
        """Return the verdict with the difference on which it hangs."""
        if not self.differences:
            return f"It is undecided whether the hypothesis holds: {self.reason}."
        least = min(self.differences, key=lambda part: part.low)
        size = f"{self.n} images of each set"
        if self.result == "holds":
            return (
                "The hypothesis holds: generated images are nearer to real images of their class "
                f"than the classes are to each other. All {len(self.differences)} differences are "
                f"above 0 by more than chance explains; the lowest: {least.numbers()} ({size})."
            )
        if self.result == "does not hold":
            least = min(self.differences, key=lambda part: part.high)
            return (
                f"The hypothesis does not hold: {least.statement('are not')}. The difference is "
                f"below 0 by more than chance explains: {least.numbers()} ({size})."
            )
        others = sum(part.low <= 0 for part in self.differences) - 1
        return (
            f"It is undecided whether the hypothesis holds: {least.statement('may or may not be')}."
            f" Chance explains either: {least.numbers()} ({size})."
            + (f" {others} other differences are as uncertain." if others > 1 else "")
            + (" One other difference is as uncertain." if others == 1 else "")
        )

    def as_record(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        differences = {
            part.name: {"value": part.value, "low": part.low, "high": part.high}
            for part in self.differences
        }
        record = {"result": self.result, "n": self.n, "differences": differences}
        return record | ({"reason": self.reason} if self.reason else {}) | asdict(self.thesis)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the record of this version, or of an older one without intervals."""
        pairs = {f"{different}-{same}": (same, different) for same, different in COMPARED_PAIRS}
        differences = tuple(
            Difference(*pairs[name], **part) for name, part in record.get("differences", {}).items()
        )
        thesis = ThesisStatistic(
            **{name: record[name] for name in ThesisStatistic.__dataclass_fields__}
        )
        reason = record.get("reason", "" if differences else _NO_INTERVALS)
        return cls(differences, record.get("n", 0), thesis, reason)
