"""The worker processes of a search on this host: started, watched, replaced and stopped."""

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..common.errors import UserError, report_errors
from ..common.logging import logger
from ..common.progress import Progress
from .result import failure_reason
from .search import CURRENT_TRIAL, Search
from .storage import LOST_STORAGE, Store, original_number
from .study import TrialLedger
from .worker import WorkerTask, work

MAX_DEATHS = 4  # per worker, with no trial ending in between; then the search gives up
STOP_SECONDS = 60  # that workers have to queue their trials again


class ProgressView:
    """Reports the trials of a search and of its repetition while workers run them."""

    def __init__(self, search: Search, store: Store, study: optuna.Study) -> None:
        self._search, self._store, self._study = search, store, study
        self.repetition: optuna.Study | None = None  # once the search has ended
        self._reported: set[tuple[str, int]] = set()
        tune = search.settings.tune
        repeats = 0 if search.is_pareto else (tune.top_trials + 1) * tune.repeat_seeds
        self.progress = Progress(search.label, tune.trials + repeats, "trials")
        self.progress.resume(len(self._new_lines()))

    def update(self) -> int:
        """Report the trials that have ended since the last call; return their number."""
        lines = self._new_lines()
        for line in lines:
            logger.info(f"{self._search.label}: {line}")
            self.progress.advance()
        return len(lines)

    def wait(self) -> None:
        """Sleep until the storage can bear the next update."""
        time.sleep(self._store.poll_seconds)

    def _new_lines(self) -> list[str]:
        """Describe each trial that has ended since the last call, a line each."""
        # Summarise the search beside the progress bar.
        ledger = self._search.ledger(self._study)
        notes = [
            f"{ledger.count(state)} {name}"
            for state, name in ((TrialState.PRUNED, "pruned"), (TrialState.FAIL, "failed"))
        ]
        ranked = ledger.ranked
        if ranked:
            best = ranked[0]
            notes.insert(0, f"best {best.values[0]:.3f} (trial {original_number(best)})")
        self.progress.note = ", ".join(notes)

        # Describe the search's trials.
        lines = []
        for trial in self._newly_ended(self._search.name, ledger):
            number = original_number(trial)
            current = " (the current configuration)" if number == CURRENT_TRIAL else ""
            lines.append(f"trial {number}{current}: {_outcome(trial)}")

        # Describe the repetition's trials, once it is known which ones are repeated.
        if ledger.is_finished and ranked and not self._search.is_pareto:
            repetition = self._search.repetition(ledger)
            self.progress.total = len(ledger.ended) + len(repetition.points)
            if self.repetition is None:
                self.repetition = repetition.open_study(self._store)
            for trial in self._newly_ended(repetition.name, repetition.ledger(self.repetition)):
                number, seed = trial.params["trial"], trial.params["seed"]
                lines.append(f"trial {number} again, seed {seed}: {_outcome(trial)}")
        return lines

    def _newly_ended(self, study: str, ledger: TrialLedger) -> list[FrozenTrial]:
        """Return the trials that have ended since the last call."""
        new = [t for t in ledger.ended if (study, original_number(t)) not in self._reported]
        self._reported |= {(study, original_number(trial)) for trial in new}
        return new


def _outcome(trial: FrozenTrial) -> str:
    """Describe how a trial ended, with its excess or why it failed."""
    if trial.state == TrialState.FAIL:
        return f"failed: {failure_reason(trial)}"
    ending = "stopped early at an excess of" if trial.state == TrialState.PRUNED else "excess"
    return f"{ending} {trial.values[0]:.3f}"


def run_workers(tasks: Sequence[WorkerTask], view: ProgressView) -> None:
    """Run a worker process for each task until all are done; replace those that are killed.

    Raises:
        UserError: if a worker ends with an error, or workers are killed again and again.
        KeyboardInterrupt: after the workers have stopped.
    """
    context = multiprocessing.get_context("spawn")

    def start(task: WorkerTask) -> SpawnProcess:
        process = context.Process(target=work_or_exit, args=(task,))
        process.start()
        return process

    running = {number: start(task) for number, task in enumerate(tasks)}
    deaths = 0  # since a trial has ended
    try:
        while running:
            if view.update():
                deaths = 0
            view.wait()
            for number, process in list(running.items()):
                status = process.exitcode
                if status is None:
                    continue
                del running[number]
                if status > 0:
                    raise UserError(f"worker {number} has failed; see its message above")
                if status < 0:
                    name = signal.Signals(-status).name
                    deaths += 1
                    if deaths > MAX_DEATHS * len(tasks):
                        raise UserError(
                            f"workers were ended by {name} {deaths} times before a trial ended; "
                            "free memory, or use fewer --workers"
                        )
                    logger.warning(
                        f"worker {number} was ended by {name}; another one takes its place"
                    )
                    running[number] = start(tasks[number])
        view.update()
    finally:
        _stop(list(running.values()))


def _stop(processes: Sequence[SpawnProcess]) -> None:
    """Terminate workers, which queue their trials again, and kill those that take too long."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
        if process.is_alive():
            process.kill()
            process.join()


def work_or_exit(task: WorkerTask) -> None:
    """Run a worker's task; exit with a message and no traceback if the user can mend an error."""
    threading.excepthook = _on_thread_error
    if status := report_errors(lambda: work(task)):
        sys.exit(status)


def _on_thread_error(ending: threading.ExceptHookArgs) -> None:
    """Warn in one line if the heartbeat's thread has lost the storage."""
    if isinstance(ending.exc_value, LOST_STORAGE):
        logger.warning(
            "the storage of the search did not answer; other workers may take over this trial"
        )
    else:
        threading.__excepthook__(ending)
