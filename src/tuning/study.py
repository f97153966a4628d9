"""A study: its sampler, what counts as a trial, and the loop of a worker.

A trial is counted once, however often it had to be tried: ``Account`` looks at the newest attempt
of each. The total is that of all workers; where two begin a last one at once, the later one steps
back.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from src.errors import UserError
from src.progress import warn
from src.tuning.objective import TrialError
from src.tuning.storage import (
    BEGUN,
    INTERRUPTS,
    REASON,
    SURPLUS,
    Store,
    newest_attempts,
    original,
    will_be_retried,
)

Point = Mapping[str, Any]
Objective = Callable[[optuna.Trial], float | Sequence[float]]


class GivenFirst(BaseSampler):
    """Tries given points first, by the order of the trials; then what Optuna's TPE proposes.

    That is a sampler after Bergstra et al., 2011: of all parameters together where there is one
    aim, of each by itself where there are two.

    A queue would be filled twice by two workers that begin at once; a trial's place is its own. Its
    number also names the random numbers, so that workers do not propose the same, and a search by
    one worker whose budget is in images comes out the same again.
    """

    def __init__(self, given: Sequence[Point], startup: int, seed: int) -> None:
        self._given, self._startup, self._seed = given, startup, seed
        self._tpe = self._for(0)

    def _for(self, number: int) -> TPESampler:
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        return TPESampler(n_startup_trials=self._startup, seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Take up the trial's random numbers."""
        self._tpe = self._for(original(trial))
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing for a trial that is given."""
        if place_of(study, trial) < len(self._given):
            return {}
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """As usual."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The given value, or one as usual."""
        place = place_of(study, trial)
        if place < len(self._given):
            return self._given[place][param_name]
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """As usual."""
        self._tpe.after_trial(study, trial, state, values)


def place_of(study: optuna.Study, trial: FrozenTrial) -> int:
    """How many trials began before a trial or, if it is a retry, before its first attempt.

    Retries have numbers as well, so this may be less than the number.
    """
    first = original(trial)
    return sum(
        other.number < first and original(other) == other.number and SURPLUS not in other.user_attrs
        for other in study.get_trials(deepcopy=False)
    )


@dataclass(frozen=True)
class Account:
    """The trials of a study that count, each by its newest attempt.

    Those are the first ``total``, so that what is found does not depend on whether another command
    that wants more of them is at work.
    """

    trials: Sequence[FrozenTrial]  # in the order of their first attempts
    total: int  # that are wanted
    retries: int  # that a trial has
    beyond: int = 0  # further trials, of commands that wanted more

    @classmethod
    def of(cls, study: optuna.Study, total: int, retries: int) -> "Account":
        """As they stand now."""
        trials = newest_attempts(study)
        return cls(trials[:total], total, retries, max(len(trials) - total, 0))

    def count(self, *states: TrialState) -> int:
        """Trials in these states."""
        return sum(trial.state in states for trial in self.trials)

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return len(self.ended)

    @property
    def ended(self) -> list[FrozenTrial]:
        """Those that will not be tried again."""
        return [
            trial
            for trial in self.trials
            if trial.state.is_finished() and not will_be_retried(trial, self.retries)
        ]

    @property
    def finished(self) -> bool:
        """Whether all have."""
        return self.done >= self.total

    @property
    def complete(self) -> list[FrozenTrial]:
        """Those that have a value."""
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    def best(self) -> list[FrozenTrial]:
        """Those that have a value, the best first; by the first value if there are several."""
        return sorted(self.complete, key=lambda trial: trial.values[0])


def work_on(
    study: optuna.Study,
    store: Store,
    total: int,
    objective: Objective,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Try what is left of a study, to the end of all its trials, whoever tries them.

    Args:
        study: with its sampler and pruner.
        store: where it is kept.
        total: trials of all workers.
        objective: raises ``TrialError`` where there is no score.
        should_stop: asked between trials.

    Raises:
        KeyboardInterrupt: if it is to stop, or the objective raised it; as after any error but
            ``TrialError``, the trial that was at work has been queued again.
    """
    while not should_stop():
        store.release_dead(study)
        account = Account.of(study, total, store.retries)
        if account.finished:
            return
        if account.count(TrialState.WAITING) == 0 and len(account.trials) >= total:
            time.sleep(store.seconds_between_looks)
            continue
        _try_one(study, store, total, objective)
    raise KeyboardInterrupt


def _try_one(study: optuna.Study, store: Store, total: int, objective: Objective) -> None:
    """Try one trial, a queued or a new one."""
    mine: list[int] = []
    errors: list[BaseException] = []
    with ExitStack() as until_told:  # else another worker might take the trial for a dead one's

        def attempt(trial: optuna.Trial) -> float | Sequence[float]:
            mine.append(trial.number)
            try:
                until_told.enter_context(store.lease(trial))
                trial.set_user_attr(BEGUN, trial.number)
                step_back_if_surplus(study, trial, total)
                return objective(trial)
            except TrialError as error:
                trial.set_user_attr(REASON, str(error))
                raise
            except (optuna.TrialPruned, UpdateFinishedTrialError):
                raise
            except (KeyboardInterrupt, UserError) as error:  # a user ends or can mend it
                trial.set_user_attr(INTERRUPTS, trial.user_attrs.get(INTERRUPTS, 0) + 1)
                errors.append(error)
                raise
            except Exception as error:
                errors.append(error)
                raise

        try:
            study.optimize(attempt, n_trials=1, catch=(TrialError,))
        except (Exception, KeyboardInterrupt):
            if mine and errors:  # it is not the trial's fault, so it is tried again
                store.queue_again(study, study.get_trials(deepcopy=False)[mine[0]])
            # Optuna has several errors for a trial that is told when it has ended already.
            if errors or not mine or not _is_lost(study, mine[0]):
                raise
            warn(f"trial {mine[0]} took so long to answer that it was given to another worker")


def _is_lost(study: optuna.Study, number: int) -> bool:
    """Whether another worker ended a trial."""
    trial = study.get_trials(deepcopy=False)[number]
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs


def step_back_if_surplus(study: optuna.Study, trial: optuna.Trial, total: int) -> None:
    """End a new trial that began when there were enough.

    Raises:
        TrialError: it is not counted.
    """
    frozen = study.get_trials(deepcopy=False)[trial.number]
    if original(frozen) == trial.number and place_of(study, frozen) >= total:
        trial.set_user_attr(SURPLUS, True)
        raise TrialError("there were enough trials")
