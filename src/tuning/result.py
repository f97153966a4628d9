"""The result of a search: its trials, the chosen one, and whether it is a gain."""

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
from .search import CURRENT_TRIAL, Search
from .storage import REASON, original_number
from .study import TrialLedger

# User attributes of trials, in the order of the table; the interval is that of the excess.
SCORES = ("excess_low", "excess_high", "mmd", "frechet_distance")
SIGNIFICANCE_LEVEL = 0.05  # chance of calling a difference between seeds a gain


@dataclass(frozen=True)
class SeedRepeats:
    """The excesses of one trial's configuration with seeds that the search has not used."""

    trial: int
    excesses: Sequence[float]  # one a seed

    @property
    def mean(self) -> float:
        """Mean excess over the seeds."""
        return float(np.mean(self.excesses))

    @property
    def std(self) -> float | None:
        """Standard deviation of the excess over the seeds; None for a single seed."""
        return float(np.std(self.excesses, ddof=1)) if len(self.excesses) > 1 else None


@dataclass(frozen=True)
class SearchResult:
    """The result of a search whose trials have all ended."""

    search: Search
    study: optuna.Study
    ledger: TrialLedger
    repeats: Sequence[SeedRepeats]  # the lowest mean first; empty for a Pareto search
    repeat_trials: Sequence[FrozenTrial] = ()  # of the repetition, those that failed too

    def chosen_trial(self, number: int | None = None) -> FrozenTrial:
        """Return the trial to adopt: the one with this number, else the best over the seeds.

        Raises:
            UserError: if there is no such trial; for a Pareto search also if no number is given.
        """
        by_number = {original_number(trial): trial for trial in self.ledger.complete}
        if number is not None:
            if number not in by_number:
                raise UserError(
                    f"--trial: trial {number} does not exist or has no score; choose one from "
                    "the table in reports/tune"
                )
            return by_number[number]
        if not self.repeats:
            raise UserError(f"{self.search.label}: {self.verdict()}")
        # The current configuration may fail in the search and yet be best with other seeds.
        best = self.repeats[0].trial
        return next(trial for trial in self.ledger.trials if original_number(trial) == best)

    def configuration(self, trial: FrozenTrial) -> TrainSettings:
        """Return the settings that a trial used."""
        return self.search.configuration(trial.params)

    def failures(self) -> str:
        """List each reason of a failure with its count, of the trials or else the repetition."""
        trials = self.repeat_trials if self.ledger.complete else self.ledger.trials
        reasons = [failure_reason(trial) for trial in trials if trial.state == TrialState.FAIL]
        return "; ".join(f"{reason} ({reasons.count(reason)})" for reason in dict.fromkeys(reasons))

    def front(self) -> list[FrozenTrial]:
        """Return the Pareto front, the trials that no other one dominates, the cheapest first."""
        trials = self.ledger.complete
        front = [one for one in trials if not any(_dominates(other, one) for other in trials)]
        return sorted(front, key=lambda trial: trial.values[1])

    def table(self) -> pd.DataFrame:
        """Return a table with a row for each trial: its state, scores and parameters."""
        rows: list[dict[str, Any]] = []
        for trial in self.ledger.trials:
            attributes, values = trial.user_attrs, self.values(trial)
            rows.append(
                {
                    "trial": original_number(trial),
                    "state": trial.state.name.lower(),
                    "excess": trial.values[0] if trial.values else np.nan,
                    **{name: attributes.get(name, np.nan) for name in SCORES},
                    "images": attributes.get("images", 0),
                    "seconds": attributes.get("seconds", 0.0),
                    "mflop": attributes.get("mflop", np.nan),
                    **{name: values.get(name, "") for name in self.search.space},
                    "reason": failure_reason(trial) if trial.state == TrialState.FAIL else "",
                }
            )
        return pd.DataFrame(rows)

    def counts(self) -> dict[str, int]:
        """Count the trials that are complete, pruned and failed, by these words of Optuna's."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return {state.name.lower(): self.ledger.count(state) for state in states}

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON values: counts, repeats, verdict and the chosen trial."""
        summary: dict[str, Any] = {
            "study": self.search.name,
            "trials": self.counts(),
            "repeated": [
                {"trial": part.trial, "excesses": list(part.excesses), "mean": part.mean}
                for part in self.repeats
            ],
            "sentence": self.verdict(),
        }
        if self.repeats:
            trial = self.chosen_trial()
            summary["chosen"] = original_number(trial)
            summary["changes"] = self.changes(trial)
        return summary

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return a trial's parameters by name, lists as comma-separated text."""
        return {
            name: ", ".join(map(str, value)) or "none" if isinstance(value, tuple | list) else value
            for name, value in self.search.values(trial.params).items()
        }

    def changes(self, trial: FrozenTrial) -> dict[str, tuple[Any, Any]]:
        """Return the current value and the trial's value of each parameter that it changes."""
        now, then = self.values(self.ledger.trials[CURRENT_TRIAL]), self.values(trial)
        return {name: (now[name], then[name]) for name in then if now[name] != then[name]}

    @property
    def _current(self) -> SeedRepeats | None:
        """The repeats of the current configuration, if it has scores."""
        return next((part for part in self.repeats if part.trial == CURRENT_TRIAL), None)

    @property
    def is_gain(self) -> bool:
        """Whether the best mean is significantly lower than the current configuration's.

        The test is Welch's, one-sided, at 5 % divided by the number of other candidates
        (Bonferroni).
        """
        current = self._current
        if current is None or self.repeats[0] is current or len(current.excesses) < 2:
            return False
        best = self.repeats[0].excesses
        test = scipy.stats.ttest_ind(best, current.excesses, equal_var=False, alternative="less")
        return bool(test.pvalue < SIGNIFICANCE_LEVEL / (len(self.repeats) - 1))

    def verdict(self) -> str:
        """Return the result as text, the verdict first and its evidence second."""
        if not self.ledger.complete:
            return f"No trial has a score: {self.failures()}."
        if self.search.is_pareto:
            return f"Trials on the front of excess against compute: {len(self.front())}."
        if not self.repeats:
            return f"None of the best trials has a score with another seed: {self.failures()}."
        best, current = self.repeats[0], self._current
        seeds = len(best.excesses)
        measure = "Excess with another seed" if seeds == 1 else f"Mean excess, {seeds} other seeds"
        measured = f"{measure}: {best.mean:.3f}"
        if current is None:
            return (
                f"Trial {best.trial} has the lowest excess; the current configuration failed with "
                f"some seed, so nothing is compared. {measured}."
            )
        if best is current:
            return (
                f"Nothing was gained: the current configuration has the lowest excess. {measured}."
            )
        relation = "is" if self.is_gain else "may be"
        evidence = (
            "one seed cannot exclude chance"
            if seeds == 1
            else f"the gain is {'' if self.is_gain else 'not '}significant (Welch test, 5 %)"
        )
        return (
            f"Trial {best.trial} {relation} better than the current configuration. "
            f"{measured} against {current.mean:.3f}; {evidence}."
        )


def _dominates(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Return whether a trial is better in some objective and worse in none."""
    pairs = list(zip(one.values, other.values, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def collect_result(
    search: Search, study: optuna.Study, repetition: optuna.Study | None
) -> SearchResult:
    """Collect the result of a search and its repetition, whose trials have all ended."""
    ledger = search.ledger(study)
    excesses: dict[int, list[float]] = {}
    repeat_trials: Sequence[FrozenTrial] = ()
    if repetition is not None:
        repeat_trials = search.repetition(ledger).ledger(repetition).trials
    for trial in repeat_trials:
        if trial.state == TrialState.COMPLETE:
            excesses.setdefault(trial.params["trial"], []).append(trial.values[0])
    # Leave out trials that failed with some seed: a mean over fewer seeds is not comparable.
    seeds = max(map(len, excesses.values()), default=0)
    repeats = [SeedRepeats(n, values) for n, values in excesses.items() if len(values) == seeds]
    repeats.sort(key=lambda part: part.mean)
    return SearchResult(search, study, ledger, repeats, repeat_trials)


def failure_reason(trial: FrozenTrial) -> str:
    """Return why a trial failed."""
    return str(trial.user_attrs.get(REASON, "its worker died"))
