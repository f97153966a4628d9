"""What counts as a trial of a study, and the loop in which a worker runs trials.

A trial counts once, however many attempts it needs: ``TrialLedger`` reads the latest attempt at
each. The wanted total is that of all workers. Where two workers begin the last trial at once, the
later one is failed as surplus.
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
from .sampler import queue_position
from .storage import (
    BEGUN,
    INTERRUPTS,
    REASON,
    SURPLUS,
    Store,
    latest_attempts,
    original_number,
    will_be_retried,
)

Objective = Callable[[optuna.Trial], float | Sequence[float]]


@dataclass(frozen=True)
class TrialLedger:
    """The trials of a study that count, each by its latest attempt.

    Those are the first ``total``, so that the result does not depend on whether another command
    wants more trials of the same study.
    """

    trials: Sequence[FrozenTrial]  # in the order of their first attempts
    total: int  # wanted
    max_retries: int  # of a trial
    extra: int = 0  # further trials, of commands that wanted more

    @classmethod
    def of(cls, study: optuna.Study, total: int, max_retries: int) -> "TrialLedger":
        """Read the ledger from a study, as it is now."""
        trials = latest_attempts(study)
        return cls(trials[:total], total, max_retries, max(len(trials) - total, 0))

    def count(self, *states: TrialState) -> int:
        """Count the trials in any of these states."""
        return sum(trial.state in states for trial in self.trials)

    @property
    def ended(self) -> list[FrozenTrial]:
        """Trials that have ended and will not be retried."""
        return [
            trial
            for trial in self.trials
            if trial.state.is_finished() and not will_be_retried(trial, self.max_retries)
        ]

    @property
    def is_finished(self) -> bool:
        """Whether all wanted trials have ended."""
        return len(self.ended) >= self.total

    @property
    def complete(self) -> list[FrozenTrial]:
        """Trials with a final score."""
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def ranked(self) -> list[FrozenTrial]:
        """Trials with a final score, the lowest excess first."""
        return sorted(self.complete, key=lambda trial: trial.values[0])


def run_trials(
    study: optuna.Study,
    store: Store,
    total: int,
    objective: Objective,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run trials until all of the study's have ended, whichever worker runs them.

    Args:
        study: with its sampler and pruner.
        store: its storage.
        total: trials wanted of all workers together.
        objective: returns a trial's score, or raises ``TrialError`` where there is none.
        should_stop: asked between trials.

    Raises:
        KeyboardInterrupt: if ``should_stop`` returns true or the objective raises it. After this
            and any other error but ``TrialError`` the running trial has been queued again.
    """
    while not should_stop():
        store.recover_dead_trials(study)
        ledger = TrialLedger.of(study, total, store.max_retries)
        if ledger.is_finished:
            return
        if ledger.count(TrialState.WAITING) == 0 and len(ledger.trials) >= total:
            time.sleep(store.poll_seconds)
            continue
        _run_one(study, store, total, objective)
    raise KeyboardInterrupt


def _run_one(study: optuna.Study, store: Store, total: int, objective: Objective) -> None:
    """Run one trial, a queued or a new one."""
    numbers: list[int] = []  # of the trial, once Optuna has chosen it
    errors: list[BaseException] = []
    with ExitStack() as leases:  # until Optuna has the result, else the trial would look dead

        def attempt(trial: optuna.Trial) -> float | Sequence[float]:
            numbers.append(trial.number)
            try:
                leases.enter_context(store.lease(trial))
                trial.set_user_attr(BEGUN, trial.number)
                fail_if_surplus(study, trial, total)
                return objective(trial)
            except TrialError as error:
                trial.set_user_attr(REASON, str(error))
                raise
            except (optuna.TrialPruned, UpdateFinishedTrialError):
                raise
            except (KeyboardInterrupt, UserError) as error:  # the user's to end or mend
                trial.set_user_attr(INTERRUPTS, trial.user_attrs.get(INTERRUPTS, 0) + 1)
                errors.append(error)
                raise
            except Exception as error:
                errors.append(error)
                raise

        try:
            study.optimize(attempt, n_trials=1, catch=(TrialError,))
        except (Exception, KeyboardInterrupt):
            if numbers and errors:  # the trial is not to blame, so it is queued again
                store.requeue(study, study.get_trials(deepcopy=False)[numbers[0]])
            # Optuna raises several errors where a trial's result comes after its end.
            if errors or not numbers or not _is_lost(study, numbers[0]):
                raise
            logger.warning(f"trial {numbers[0]} looked dead, so it was given to another worker")


def _is_lost(study: optuna.Study, number: int) -> bool:
    """Return whether another worker has failed this worker's trial as dead."""
    trial = study.get_trials(deepcopy=False)[number]
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs


def fail_if_surplus(study: optuna.Study, trial: optuna.Trial, total: int) -> None:
    """Fail a new trial that began when there were enough; it does not count.

    Raises:
        TrialError: if the trial is surplus.
    """
    frozen = study.get_trials(deepcopy=False)[trial.number]
    if original_number(frozen) == trial.number and queue_position(study, frozen) >= total:
        trial.set_user_attr(SURPLUS, True)
        raise TrialError("there were enough trials")
