"""The workers of a search on this host, as processes: started, watched, replaced and ended."""

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ..common.errors import UserError, report_errors
from ..common.logging import logger
from ..common.progress import Progress
from .result import reason_of
from .search import FIRST, Search
from .storage import Store, original
from .study import Account
from .worker import Job, work

DEATHS = 4  # of each worker, with no trial in between, after which a search gives up
SECONDS_TO_STOP = 60  # that workers get to queue their trials again


class Watched:
    """What a person sees of the studies while workers are at them."""

    def __init__(self, search: Search, store: Store, study: optuna.Study) -> None:
        self._search, self._store, self._study = search, store, study
        self.repetition: optuna.Study | None = None
        self._told: set[tuple[str, int]] = set()
        tune = search.settings.tune
        more = 0 if search.pareto else (tune.top_trials + 1) * tune.repeat_seeds
        self._progress = Progress(search.label, tune.trials + more, "trials")
        self._progress.resume(len(self._new()))

    def __enter__(self) -> "Watched":
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def look(self) -> int:
        """Tell what has ended since the last look; how many trials that is."""
        lines = self._new()
        for line in lines:
            logger.info(f"{self._search.label}: {line}")
            self._progress.advance()
        return len(lines)

    def wait(self) -> None:
        """Until the next look is due."""
        time.sleep(self._store.seconds_between_looks)

    def _new(self) -> list[str]:
        """A line for each trial that has ended since the last look."""
        account = self._search.account(self._study)
        notes = [
            f"{account.count(state)} {name}"
            for state, name in ((TrialState.PRUNED, "pruned"), (TrialState.FAIL, "failed"))
        ]
        best = account.best()
        if best:
            notes.insert(0, f"best {best[0].values[0]:.3f} (trial {original(best[0])})")
        self._progress.note = ", ".join(notes)
        lines = []
        for trial in self._ended(self._search.name, account):
            first = " (the current configuration)" if original(trial) == FIRST else ""
            lines.append(f"trial {original(trial)}{first}: {_ending(trial)}")
        if account.finished and best and not self._search.pareto:
            repetition = self._search.repetition(account)
            self._progress.total = account.done + len(repetition.given)
            if self.repetition is None:
                self.repetition = repetition.open(self._store)
            for trial in self._ended(repetition.name, repetition.account(self.repetition)):
                number, seed = trial.params["trial"], trial.params["seed"]
                lines.append(f"trial {number} again, seed {seed}: {_ending(trial)}")
        return lines

    def _ended(self, study: str, account: Account) -> list[FrozenTrial]:
        """Trials that have ended and were not told yet."""
        new = [trial for trial in account.ended if (study, original(trial)) not in self._told]
        self._told |= {(study, original(trial)) for trial in new}
        return new


def _ending(trial: FrozenTrial) -> str:
    """How a trial ended."""
    if trial.state == TrialState.FAIL:
        return f"failed: {reason_of(trial)}"
    ending = "stopped early at an excess of" if trial.state == TrialState.PRUNED else "excess"
    return f"{ending} {trial.values[0]:.3f}"


def run_crew(jobs: Sequence[Job], watched: Watched) -> None:
    """Run a worker for each job, until all are done; one that is killed is replaced.

    Raises:
        UserError: if a worker ends with an error.
        KeyboardInterrupt: when the workers have stopped.
    """
    context = multiprocessing.get_context("spawn")

    def start(job: Job) -> SpawnProcess:
        process = context.Process(target=work_or_exit, args=(job,))
        process.start()
        return process

    running = {number: start(job) for number, job in enumerate(jobs)}
    deaths = 0  # since a trial has ended
    try:
        while running:
            if watched.look():
                deaths = 0
            watched.wait()
            for number, process in list(running.items()):
                status = process.exitcode
                if status is None:
                    continue
                del running[number]
                if status < 0:
                    name = signal.Signals(-status).name
                    deaths += 1
                    if deaths > DEATHS * len(jobs):
                        raise UserError(
                            f"workers are ended by {name} again and again before a trial ends; is "
                            "there enough memory? Fewer --workers need less"
                        )
                    logger.warning(f"worker {number} was ended by {name}; another one goes on")
                    running[number] = start(jobs[number])
                elif status:
                    raise UserError(f"worker {number} has failed, as it said above")
        watched.look()
    finally:
        _stop(list(running.values()))


def _stop(processes: Sequence[SpawnProcess]) -> None:
    """End workers; each queues its trial again."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + SECONDS_TO_STOP
    for process in processes:
        process.join(max(end - time.monotonic(), 0))
        if process.is_alive():
            process.kill()
            process.join()


def work_or_exit(job: Job) -> None:
    """Do a job; what a user can mend is said without a traceback."""
    threading.excepthook = _thread_ended
    status = report_errors(lambda: while_stored(lambda: work(job)))
    if status:
        sys.exit(status)


def while_stored(work: Callable[[], None]) -> None:
    """Do some work that needs the storage.

    Raises:
        UserError: if the storage goes away.
    """
    try:
        work()
    except (StorageInternalError, SQLAlchemyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the storage of the search cannot be reached any more ({reason}); start the same "
            "command again when it can"
        ) from error


def _thread_ended(ending: threading.ExceptHookArgs) -> None:
    """Tell in a line that the heartbeat of a trial has ended with the storage."""
    if isinstance(ending.exc_value, StorageInternalError | SQLAlchemyError):
        logger.warning(
            "the storage of the search did not answer; other workers may take over this trial"
        )
    else:
        threading.__excepthook__(ending)
