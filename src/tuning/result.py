"""What a search found: its tables, what it chose and what that gained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
import scipy.stats
from optuna.trial import FrozenTrial, TrialState

from ..common.errors import UserError
from ..config.train import TrainSettings
from .search import FIRST, Search
from .storage import REASON, original
from .study import Account

LEVEL = 0.05  # chance of calling a difference of seeds a gain


@dataclass(frozen=True)
class Repeated:
    """The excess of one trial's configuration over other seeds."""

    trial: int
    excesses: Sequence[float]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.excesses))

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None of a single one."""
        return float(np.std(self.excesses, ddof=1)) if len(self.excesses) > 1 else None


@dataclass(frozen=True)
class Found:
    """The result of a search that has ended."""

    search: Search
    study: optuna.Study
    account: Account
    repeated: Sequence[Repeated]  # the best mean first; empty for a search of two aims
    repetitions: Sequence[FrozenTrial] = ()  # the trials that these are of, and those that failed

    @property
    def first(self) -> FrozenTrial:
        """The current configuration's trial."""
        return self.account.trials[FIRST]

    def chosen(self, number: int | None = None) -> FrozenTrial:
        """The trial to adopt: that of a number, or the one that did best over the seeds.

        Of a front, only one by its number.

        Raises:
            UserError: if there is none.
        """
        by_number = {original(trial): trial for trial in self.account.complete}
        if number is not None:
            if number not in by_number:
                raise UserError(f"--trial: trial {number} is not there or has no score")
            return by_number[number]
        if not self.repeated:
            raise UserError(f"{self.search.label}: {self.sentence()}")
        # The current configuration may have failed in the search and yet do best with other seeds.
        return next(t for t in self.account.trials if original(t) == self.repeated[0].trial)

    def configuration(self, trial: FrozenTrial) -> TrainSettings:
        """The settings of a trial."""
        return self.search.configuration(trial.params)

    def failures(self) -> str:
        """Why trials failed, or all repetitions of the best, each reason once."""
        trials = self.repetitions if self.account.complete else self.account.trials
        reasons = [reason_of(trial) for trial in trials if trial.state == TrialState.FAIL]
        return "; ".join(f"{reason} ({reasons.count(reason)})" for reason in dict.fromkeys(reasons))

    def front(self) -> list[FrozenTrial]:
        """Trials that no other one beats in both aims, the cheapest first."""
        trials = self.account.complete
        best = [one for one in trials if not any(_beats(other, one) for other in trials)]
        return sorted(best, key=lambda trial: trial.values[1])

    def table(self) -> pd.DataFrame:
        """A row for each trial: what became of it, its scores and its values."""
        rows: list[dict[str, Any]] = []
        for trial in self.account.trials:
            attributes, values = trial.user_attrs, self.values(trial)
            rows.append(
                {
                    "trial": original(trial),
                    "state": trial.state.name.lower(),
                    "excess": trial.values[0] if trial.values else np.nan,
                    "distance": attributes.get("distance", np.nan),
                    "images": attributes.get("images", 0),
                    "seconds": attributes.get("seconds", 0.0),
                    "mflop": attributes.get("mflop", np.nan),
                    **{name: values.get(name, "") for name in self.search.space},
                    "reason": reason_of(trial) if trial.state == TrialState.FAIL else "",
                }
            )
        return pd.DataFrame(rows)

    def summary(self) -> dict[str, Any]:
        """The result in numbers and names."""
        found: dict[str, Any] = {
            "study": self.search.name,
            "trials": {
                state.name.lower(): self.account.count(state)
                for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
            },
            "repeated": [
                {"trial": part.trial, "excesses": list(part.excesses), "mean": part.mean}
                for part in self.repeated
            ],
            "sentence": self.sentence(),
        }
        if self.repeated:
            trial = self.chosen()
            found["chosen"] = original(trial)
            found["changes"] = self.changes(trial)
        return found

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """The values of a trial by name; a list as words."""
        found = self.search.values(trial.params)
        return {
            name: ", ".join(map(str, value)) or "none" if isinstance(value, tuple | list) else value
            for name, value in found.items()
        }

    def changes(self, trial: FrozenTrial) -> dict[str, tuple[Any, Any]]:
        """What a trial changes, by name: the current value, and that of the trial."""
        now, then = self.values(self.first), self.values(trial)
        return {name: (now[name], then[name]) for name in then if now[name] != then[name]}

    @property
    def _repeated_first(self) -> Repeated | None:
        """The current configuration with other seeds."""
        return next((part for part in self.repeated if part.trial == FIRST), None)

    @property
    def gained(self) -> bool:
        """Whether the best mean lies below the current configuration's by more than chance.

        Welch's test at 5 %, divided by how many could have been the best (Bonferroni).
        """
        now = self._repeated_first
        if now is None or self.repeated[0] is now or len(now.excesses) < 2:
            return False
        best = self.repeated[0].excesses
        test = scipy.stats.ttest_ind(best, now.excesses, equal_var=False, alternative="less")
        return bool(test.pvalue < LEVEL / (len(self.repeated) - 1))

    def sentence(self) -> str:
        """What came out, for a person."""
        if not self.account.complete:
            return f"No trial has a score: {self.failures()}."
        if self.search.pareto:
            return f"{len(self.front())} trials are on the front of distance against compute."
        if not self.repeated:
            return f"None of the best trials has a score with another seed: {self.failures()}."
        best = self.repeated[0]
        now = self._repeated_first
        count = len(best.excesses)
        seeds = "with another seed" if count == 1 else f"as the mean over {count} other seeds"
        if now is None:
            return (
                f"Trial {best.trial} did best: excess {best.mean:.3f} {seeds}. The current "
                "configuration failed with some of them, or has no score."
            )
        if best is now:
            return (
                f"Nothing was gained: the current configuration has an excess of {now.mean:.3f} "
                f"{seeds}, and no other did better."
            )
        return (
            f"Trial {best.trial} did best: excess {best.mean:.3f} {seeds}, where the "
            f"current configuration has {now.mean:.3f}; "
            + (
                "one seed alone does not tell whether that is chance."
                if count == 1
                else "more than chance would explain."
                if self.gained
                else "the seeds differ so much that this may be chance."
            )
        )


def _beats(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Whether a trial is better in some aim and worse in none."""
    pairs = list(zip(one.values, other.values, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def collect(search: Search, study: optuna.Study, repetition: optuna.Study | None) -> Found:
    """The result of studies whose trials have all ended."""
    account = search.account(study)
    by_trial: dict[int, list[float]] = {}
    again: Sequence[FrozenTrial] = ()
    if repetition is not None:
        again = search.repetition(account).account(repetition).trials
    for trial in again:
        if trial.state == TrialState.COMPLETE:
            by_trial.setdefault(trial.params["trial"], []).append(trial.values[0])
    # One that failed with some seed does not count as better for having fewer.
    most = max(map(len, by_trial.values()), default=0)
    repeated = [Repeated(n, values) for n, values in by_trial.items() if len(values) == most]
    return Found(search, study, account, sorted(repeated, key=lambda part: part.mean), again)


def reason_of(trial: FrozenTrial) -> str:
    """Why a trial failed."""
    return str(trial.user_attrs.get(REASON, "its worker died"))
