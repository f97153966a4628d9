"""Where studies are stored, and how the trials of dead workers are recovered.

A journal file serves the workers of one host. A worker holds a system lock on a file of its trial,
the lease, which ends with the process however that ends. Any other storage is a database, where
Optuna's heartbeat shows which workers are alive.
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
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
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

from ..common.addresses import check_address
from ..common.errors import UserError
from ..common.locks import lock, try_lock
from ..common.logging import logger
from ..common.paths import HOME
from ..common.secrets import hide_secrets, mask_address, remember_address

STORAGE = "TUNE_STORAGE"  # environment variable, since a URL may hold a password
LEASE_GRACE = timedelta(seconds=10)  # a trial that has just begun may take so long for its lease
# User attributes of trials.
BEGUN = "begun"  # the attempt that a worker has begun; a retry may carry the one before
REASON = "reason"  # why it failed; a trial whose worker died has none
SURPLUS = "surplus"  # it began when there were enough trials
INTERRUPTS = "interrupts"  # stops by the user and errors the user can mend: they cost no retry
FIRST_BYTES = b'{"op_code"'  # of a journal
OPEN_ATTEMPTS = 3  # at opening a database
HEARTBEATS = 4  # in the time after which a silent worker counts as dead
LOST_STORAGE = (StorageInternalError, SQLAlchemyError)  # raised where it has gone away


class Store(ABC):
    """A storage of studies, with the leases of running trials."""

    storage: BaseStorage
    poll_seconds: float  # between two looks at the trials; what the storage can bear

    def __init__(self, max_retries: int) -> None:
        self.max_retries = max_retries
        # Called with each trial whose worker died.
        self.on_dead_trial: Callable[[FrozenTrial], None] = lambda trial: None
        self._retry = RetryHeartbeatStaleTrialCallback()

    @abstractmethod
    def lease(self, trial: optuna.Trial) -> AbstractContextManager[None]:
        """Mark a trial as this process's while the block lasts and the process lives."""

    @abstractmethod
    def recover_dead_trials(self, study: optuna.Study) -> None:
        """Fail the trials of dead workers and queue each again."""

    def close(self) -> None:  # noqa: B027, a file needs nothing
        """Close the connections."""

    def requeue(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Queue a trial that was cut off again, unless its retries are used up."""
        if will_be_retried(trial, self.max_retries):
            again = copy.copy(trial)  # without what the attempt had reached
            again.user_attrs = {k: v for k, v in trial.user_attrs.items() if k == INTERRUPTS}
            self._retry(study, again)

    def requeue_dead(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Queue a dead worker's trial again and call ``on_dead_trial``."""
        self.requeue(study, trial)
        self.on_dead_trial(trial)


class JournalStore(Store):
    """A journal file with a folder of leases beside it.

    Raises:
        UserError: if the file is no journal, or a damaged one.
    """

    poll_seconds = 0.5

    def __init__(self, path: Path, max_retries: int) -> None:
        super().__init__(max_retries)
        # Optuna's lock is a link to this path, which a relative path would not reach.
        path = path.absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not _is_journal(path):
            raise UserError(f"{path}: this is not the journal of a study; name another file")
        file_lock = JournalFileSymlinkLock(str(path))
        _remove_partial_line(path, file_lock)
        try:
            self.storage = JournalStorage(JournalFileBackend(str(path), file_lock))
        except (ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path}: the journal is damaged ({reason}); name another file"
            ) from error
        self._leases = path.with_name(path.name + ".leases")
        self._leases.mkdir(exist_ok=True)

    @contextmanager
    def lease(self, trial: optuna.Trial) -> Iterator[None]:
        """Lock a file that is named after the study and trial, see ``Store.lease``."""
        path = self._path(trial.study, trial.number)
        with lock(path):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def recover_dead_trials(self, study: optuna.Study) -> None:
        """Queue again each trial that runs, or was cut off, and whose lease no process holds."""
        for trial in latest_attempts(study):
            begun = trial.datetime_start
            cut = will_be_retried(trial, self.max_retries)
            if trial.state != TrialState.RUNNING and not cut:
                continue
            if not cut and begun is not None and datetime.now() - begun < LEASE_GRACE:
                continue
            path = self._path(study, trial.number)
            held = try_lock(path)
            if held is None:
                continue  # its worker is alive, or another worker is recovering it
            with held:
                now = {original_number(t): t for t in latest_attempts(study)}[
                    original_number(trial)
                ]
                if now.number != trial.number:
                    continue  # another worker has queued it again
                if now.state == TrialState.RUNNING:
                    now = study.tell(trial.number, state=TrialState.FAIL)
                elif not will_be_retried(now, self.max_retries):
                    continue  # it has ended since it was listed
                self.requeue_dead(study, now)
            path.unlink(missing_ok=True)

    def _path(self, study: optuna.Study, number: int) -> Path:
        return self._leases / f"{study.study_name}-{number}"


def _is_journal(path: Path) -> bool:
    """Return whether a file is empty or begins like a journal, even with a partial line."""
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


def _remove_partial_line(path: Path, file_lock: JournalFileSymlinkLock) -> None:
    """Remove a partial last line, which a full disk or a power cut left; the next would join it."""
    if not path.exists():
        return
    file_lock.acquire()
    try:
        with path.open("rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                logger.warning(f"{path}: the last line is cut off and is removed")
                file.truncate(whole)
    finally:
        file_lock.release()


class DatabaseStore(Store):
    """A database that SQLAlchemy supports, with Optuna's heartbeat."""

    poll_seconds = 2.0

    def __init__(self, url: str, max_retries: int, heartbeat_timeout: int) -> None:
        super().__init__(max_retries)
        self._heartbeat_timeout = timedelta(seconds=heartbeat_timeout)
        for attempt in range(OPEN_ATTEMPTS):
            try:
                self.storage: RDBStorage = RDBStorage(
                    url,
                    heartbeat_interval=max(heartbeat_timeout // HEARTBEATS, 1),
                    grace_period=heartbeat_timeout,
                    heartbeat_stale_trial_callback=self.requeue_dead,
                )
                return
            except (ProgrammingError, IntegrityError):
                # Another process may be creating the tables at the same moment.
                if attempt == OPEN_ATTEMPTS - 1:
                    raise
                time.sleep(1)

    @contextmanager
    def lease(self, trial: optuna.Trial) -> Iterator[None]:
        """Do nothing, since ``Study.optimize`` sends the heartbeat."""
        yield

    def recover_dead_trials(self, study: optuna.Study) -> None:
        """Recover trials whose worker has sent no heartbeat within the timeout."""
        fail_stale_trials(study)
        for trial in latest_attempts(study):
            # Optuna overlooks a trial whose worker died before its first heartbeat, or between
            # failing it and queueing it again.
            is_silent = (
                trial.state == TrialState.RUNNING
                and trial.user_attrs.get(BEGUN) != trial.number
                and self._is_overdue(trial.datetime_start)
            )
            if is_silent:
                try:
                    trial = study.tell(trial.number, state=TrialState.FAIL)
                except (ValueError, UpdateFinishedTrialError):
                    continue  # another worker has failed it already
            if will_be_retried(trial, self.max_retries) and (
                is_silent or self._is_overdue(trial.datetime_complete)
            ):
                self.requeue_dead(study, trial)

    def _is_overdue(self, moment: datetime | None) -> bool:
        return moment is not None and datetime.now() - moment > self._heartbeat_timeout

    def close(self) -> None:
        """Close the connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()


def choose_storage(given: str | None) -> str:
    """Return the storage to use: the given one, else ``$TUNE_STORAGE``, else ``tune.journal``.

    Args:
        given: the path of a journal file, the URL of a database, or None.
    """
    return given or os.environ.get(STORAGE) or str(HOME / "tune.journal")


def open_store(storage: str, max_retries: int, heartbeat_timeout: int) -> Store:
    """Open a storage.

    Args:
        storage: the path of a journal file, or the URL of a database.
        max_retries: of a trial whose worker died.
        heartbeat_timeout: seconds of silence after which a worker counts as dead; databases only.

    Raises:
        UserError: if the storage cannot be used; the message holds no password.
    """
    if "://" not in storage:
        return JournalStore(Path(storage), max_retries)
    remember_address(storage)
    check_address(storage, "--storage")
    try:
        make_url(storage)
    except (ArgumentError, ValueError):
        raise UserError(
            "--storage: this is not the URL of a database; give one such as "
            "postgresql+psycopg://user:password@host/name"
        ) from None
    try:
        return DatabaseStore(storage, max_retries, heartbeat_timeout)
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        reason = _short_reason(error)
        raise UserError(f"--storage: {mask_address(storage)} cannot be used: {reason}") from error


@contextmanager
def lost_storage_reported() -> Iterator[None]:
    """Raise a ``UserError`` if the storage of the search goes away within the block.

    Raises:
        UserError: the message holds no password.
    """
    try:
        yield
    except LOST_STORAGE as error:
        raise UserError(
            f"the storage of the search cannot be reached any more ({_short_reason(error)}); start "
            "the same command again when it can be reached"
        ) from error


def _short_reason(error: Exception) -> str:
    """Return an error's text on one line, without secrets."""
    return " ".join(hide_secrets(str(error)).split())[:200]


def original_number(trial: FrozenTrial) -> int:
    """Return the number of a trial's first attempt, which is its own unless it is a retry."""
    number: int | None = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if number is None else number


def latest_attempts(study: optuna.Study) -> list[FrozenTrial]:
    """Return the last attempt at each trial, in the order of the first attempts."""
    latest = {
        original_number(trial): trial
        for trial in study.get_trials(deepcopy=False)
        if SURPLUS not in trial.user_attrs
    }
    return [latest[number] for number in sorted(latest)]


def will_be_retried(trial: FrozenTrial, max_retries: int) -> bool:
    """Return whether a trial was cut off through no fault of its own and has retries left."""
    if trial.state != TrialState.FAIL or trial.user_attrs.keys() & {REASON, SURPLUS}:
        return False
    attempts = RetryHeartbeatStaleTrialCallback.retry_history(trial)
    return len(attempts) - trial.user_attrs.get(INTERRUPTS, 0) < max_retries


def study_name(label: str, kind: str, content: object) -> str:
    """Return a study's name, whose suffix is a digest of the content, any JSON value."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{label}-{kind}-{digest[:8]}"
