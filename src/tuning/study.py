"""A study: its sampler, what counts as a trial, and the loop of a worker.

A trial is counted once, however often it had to be tried: ``Account`` looks at the newest attempt
of each. The total is that of all workers; where two begin a last one at once, the later one steps
back.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..common.errors import UserError
from ..common.logging import logger
from .objective import TrialError
from .sampler import place_of
from .storage import (
    BEGUN,
    INTERRUPTS,
    REASON,
    SURPLUS,
    Store,
    newest_attempts,
    original,
    will_be_retried,
)

Objective = Callable[[optuna.Trial], float | Sequence[float]]


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
            logger.warning(
                f"trial {mine[0]} took so long to answer that it was given to another worker"
            )


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
