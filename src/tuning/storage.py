"""Where a study is kept, and how the trial of a worker that died is found.

A journal file serves the workers of one host. Each trial that runs there holds a lock of the
system's on a file of its own, its lease, which ends with the process however that ends. Any other
storage is a database, where Optuna's heartbeat tells who is alive.
"""

import copy
import hashlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from ..common.errors import UserError
from ..common.locks import lock, try_lock
from ..common.logging import logger
from ..common.paths import HOME

STORAGE = "TUNE_STORAGE"  # environment variable, since a URL may hold a password
UNLEASED = timedelta(seconds=10)  # that a trial which has just begun may take to get its lease
# Attributes of trials.
BEGUN = "begun"  # its own number: a worker is at it, or was
REASON = "reason"  # why it failed; one that was cut off has none
SURPLUS = "surplus"  # it began when all had
INTERRUPTS = "interrupts"  # how often a user stopped it or could mend it: no retries
FIRST_BYTES = b'{"op_code"'  # of a journal
ATTEMPTS = 3  # at opening a database
BEATS = 4  # heartbeats within the time after which a silent worker is taken for dead


class Store(ABC):
    """A storage of studies, and the leases of the trials that run."""

    storage: BaseStorage
    seconds_between_looks: float  # that its host can bear

    def __init__(self, retries: int) -> None:
        self.retries = retries
        # Told of each trial whose worker died.
        self.on_cut: Callable[[FrozenTrial], None] = lambda trial: None
        self._retry = RetryHeartbeatStaleTrialCallback()

    @abstractmethod
    def lease(self, trial: optuna.Trial) -> AbstractContextManager[None]:
        """Hold a trial, while the block lasts and this process lives."""

    @abstractmethod
    def release_dead(self, study: optuna.Study) -> None:
        """Fail the trials of workers that died, and queue each again."""

    def close(self) -> None:  # noqa: B027, a file needs nothing
        """Give connections back."""

    def queue_again(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Let a trial that was cut off be tried again, unless that was so too often."""
        if will_be_retried(trial, self.retries):
            again = copy.copy(trial)  # without what the attempt had reached
            again.user_attrs = {k: v for k, v in trial.user_attrs.items() if k == INTERRUPTS}
            self._retry(study, again)

    def found_dead(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Queue the trial of a worker that died, and tell of it."""
        self.queue_again(study, trial)
        self.on_cut(trial)


class JournalStore(Store):
    """A journal file and, beside it, a folder of leases."""

    seconds_between_looks = 0.5

    def __init__(self, path: Path, retries: int) -> None:
        super().__init__(retries)
        # Optuna's lock is a link to this path, which a relative one would not reach.
        path = path.absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not _is_journal(path):
            raise UserError(f"{path}: this is not the journal of a study; name another")
        file_lock = JournalFileSymlinkLock(str(path))
        _cut_half_line(path, file_lock)
        try:
            self.storage = JournalStorage(JournalFileBackend(str(path), file_lock))
        except (ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: the journal is damaged ({reason}); name another") from error
        self._leases = path.with_name(path.name + ".leases")
        self._leases.mkdir(exist_ok=True)

    @contextmanager
    def lease(self, trial: optuna.Trial) -> Iterator[None]:
        """As ``Store``: a lock on a file that is named after the study and trial."""
        path = self._path(trial.study, trial.number)
        with lock(path):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def release_dead(self, study: optuna.Study) -> None:
        """As ``Store``: those that run, or were cut off, but whose lease nobody holds."""
        for trial in newest_attempts(study):
            begun = trial.datetime_start
            cut = will_be_retried(trial, self.retries)
            if trial.state != TrialState.RUNNING and not cut:
                continue
            if not cut and begun is not None and datetime.now() - begun < UNLEASED:
                continue
            path = self._path(study, trial.number)
            held = try_lock(path)
            if held is None:
                continue  # it is alive, or another worker has just found it
            with held:
                now = {original(t): t for t in newest_attempts(study)}[original(trial)]
                if now.number != trial.number:
                    continue  # it has been queued again
                if now.state == TrialState.RUNNING:
                    now = study.tell(trial.number, state=TrialState.FAIL)
                elif not will_be_retried(now, self.retries):
                    continue  # it has ended since it was looked at
                self.found_dead(study, now)
            path.unlink(missing_ok=True)

    def _path(self, study: optuna.Study, number: int) -> Path:
        return self._leases / f"{study.study_name}-{number}"


def _is_journal(path: Path) -> bool:
    """Whether a file is empty or begins as a journal does, be it with half a line."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline()
    if not line.endswith(b"\n"):
        return line[: len(FIRST_BYTES)] == FIRST_BYTES[: len(line)]
    try:
        return "op_code" in json.loads(line)
    except (ValueError, TypeError):
        return False


def _cut_half_line(path: Path, file_lock: JournalFileSymlinkLock) -> None:
    """Remove what a full disk or a power cut left of a last line; the next one would join it."""
    if not path.exists():
        return
    file_lock.acquire()
    try:
        with path.open("rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                logger.warning(f"{path}: its last line is cut off, and is removed")
                file.truncate(whole)
    finally:
        file_lock.release()


class DatabaseStore(Store):
    """A database that SQLAlchemy knows, with Optuna's heartbeat."""

    seconds_between_looks = 2.0

    def __init__(self, url: str, retries: int, lease_seconds: int) -> None:
        super().__init__(retries)
        self._silence = timedelta(seconds=lease_seconds)
        for attempt in range(ATTEMPTS):
            try:
                self.storage: RDBStorage = RDBStorage(
                    url,
                    heartbeat_interval=max(lease_seconds // BEATS, 1),
                    grace_period=lease_seconds,
                    heartbeat_stale_trial_callback=self.found_dead,
                )
                return
            except (ProgrammingError, IntegrityError):
                # Another process may be making the tables at the same moment.
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(1)

    @contextmanager
    def lease(self, trial: optuna.Trial) -> Iterator[None]:
        """As ``Store``; ``Study.optimize`` sends the heartbeat."""
        yield

    def release_dead(self, study: optuna.Study) -> None:
        """As ``Store``: those whose worker has been silent for too long."""
        fail_stale_trials(study)
        for trial in newest_attempts(study):
            # Cut off before its first heartbeat, or between its end and its being queued again.
            unheard = (
                trial.state == TrialState.RUNNING
                and trial.user_attrs.get(BEGUN) != trial.number
                and self._is_old(trial.datetime_start)
            )
            if unheard:
                try:
                    trial = study.tell(trial.number, state=TrialState.FAIL)
                except (ValueError, UpdateFinishedTrialError):
                    continue  # another worker was first
            if will_be_retried(trial, self.retries) and (
                unheard or self._is_old(trial.datetime_complete)
            ):
                self.found_dead(study, trial)

    def _is_old(self, moment: datetime | None) -> bool:
        return moment is not None and datetime.now() - moment > self._silence

    def close(self) -> None:
        """As ``Store``."""
        self.storage.remove_session()
        self.storage.engine.dispose()


def storage_place(given: str | None) -> str:
    """A journal's path or a database's URL: what was given, else $TUNE_STORAGE, else our file."""
    return given or os.environ.get(STORAGE) or str(HOME / "tune.journal")


def open_store(place: str, retries: int, lease_seconds: int) -> Store:
    """The storage of a path of a journal file or a URL of a database.

    Raises:
        UserError: if it cannot be used; a password in the URL is not repeated.
    """
    if "://" not in place:
        return JournalStore(Path(place), retries)
    try:
        shown = make_url(place).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):  # whose message may hold a part of the password
        raise UserError("--storage: this is not the URL of a database") from None
    try:
        return DatabaseStore(place, retries, lease_seconds)
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--storage: {shown} cannot be used: {reason}") from error


def original(trial: FrozenTrial) -> int:
    """The number under which a trial was first tried."""
    number: int | None = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if number is None else number


def newest_attempts(study: optuna.Study) -> list[FrozenTrial]:
    """The last attempt at each trial, in the order of the first ones."""
    newest = {
        original(trial): trial
        for trial in study.get_trials(deepcopy=False)
        if SURPLUS not in trial.user_attrs
    }
    return [newest[number] for number in sorted(newest)]


def will_be_retried(trial: FrozenTrial, retries: int) -> bool:
    """Whether a trial was cut off by no fault of its own, and not too often."""
    if trial.state != TrialState.FAIL or trial.user_attrs.keys() & {REASON, SURPLUS}:
        return False
    before = RetryHeartbeatStaleTrialCallback.retry_history(trial)
    return len(before) - trial.user_attrs.get(INTERRUPTS, 0) < retries


def study_name(label: str, kind: str, content: object) -> str:
    """A name for a study of some content, so that another space means another study."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{label}-{kind}-{digest[:8]}"
