"""The MLflow store: connections and its experiment."""

import logging
import sqlite3
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mlflow
import mlflow.store.db.utils
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException

from ..common.addresses import sqlite_address
from ..common.errors import UserError
from ..common.files import write_file
from ..common.locks import lock
from ..common.secrets import mask_address
from .address import (
    experiment_name,
    remember_experiment,
    sqlite_file,
    tracking_uri,
)
from .artifacts import artifact_uri, count_misplaced, relocate_artifacts
from .failures import STORE_ERRORS, store_error

# MLflow tries a database that is away ten times, over 100 seconds; what fails is repeated here.
mlflow.store.db.utils.MAX_RETRY_COUNT = 3
# It prints a traceback of each refusal of a database, which is reported here in one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

# Timeout in seconds of each answer without which no work begins: the server may be busy, or new.
PATIENT_TIMEOUT = 60


@contextmanager
def connect(
    root: Path, patient: bool = False, prepare: bool = True
) -> Iterator[mlflow.MlflowClient]:
    """Connect to the store for a few short requests.

    Args:
        root: the project's folder.
        patient: whether to wait PATIENT_TIMEOUT for each answer, since no work begins without it.
        prepare: whether to create a missing SQLite store, and to correct one that was moved.

    Raises:
        UserError: if the store cannot be reached.
    """
    uri = tracking_uri(root)
    timeout = _request_timeout()
    waiting = _patient_requests(uri, timeout) if patient else nullcontext()
    try:
        with _store_lock(root), quiet_mlflow(), waiting:
            if prepare:
                _prepare_sqlite(uri, root)
            yield mlflow.MlflowClient(uri)
    except STORE_ERRORS as error:
        raise store_error(uri, error) from error


def check_store(root: Path) -> None:
    """Reach the store and change nothing; an SQLite store that is missing counts as reached.

    Raises:
        UserError: if it cannot be reached.
    """
    if not _is_missing(tracking_uri(root)):
        with connect(root, prepare=False) as client:
            client.search_experiments(max_results=1)


def count_moved(root: Path) -> int:
    """Count the artifacts that a store lists in a former folder of the project.

    Raises:
        UserError: if the store cannot be read.
    """
    uri = tracking_uri(root)
    file = sqlite_file(uri)
    try:
        return count_misplaced(file, root) if file is not None and file.exists() else 0
    except sqlite3.Error as error:
        raise store_error(uri, error) from error


def is_reachable(root: Path) -> bool:
    """Return whether the store answers now."""
    try:
        check_store(root)
    except UserError:
        return False
    return True


def find_experiment(root: Path, name: str, patient: bool = False) -> str:
    """Ask the store for the id of an experiment, which is created if needed; see ``connect``.

    Raises:
        UserError: if the store cannot be reached.
    """
    with connect(root, patient) as client:
        return ensure_experiment(client, root, name)


def find_runs(root: Path, stage: str) -> list[str]:
    """Return the ids of a stage's finished runs, the newest first.

    Raises:
        UserError: if the store cannot be reached.
    """
    with connect(root) as client:
        runs = client.search_runs(
            [ensure_experiment(client, root, experiment_name())],
            f"tags.`dvc.stage` = '{stage}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
    return [str(run.info.run_id) for run in runs]


def ensure_experiment(client: mlflow.MlflowClient, root: Path, name: str) -> str:
    """Return the id of an experiment, created if needed, and remember it.

    In a local store its artifacts get an absolute path, since a run's working folder may vanish.

    Raises:
        UserError: if somebody deleted the experiment.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {name} was deleted: restore it (`mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}`), or choose another by "
            "MLFLOW_EXPERIMENT_NAME"
        )
    if experiment is not None:
        experiment_id = str(experiment.experiment_id)
    else:
        is_sqlite = sqlite_file(tracking_uri(root)) is not None
        experiment_id = _create_experiment(client, name, artifact_uri(root) if is_sqlite else None)
    remember_experiment(root, name, experiment_id)
    return experiment_id


def ensure_sqlite(root: Path) -> None:
    """Create a missing SQLite store, and correct one that was moved, as one process of several."""
    uri = tracking_uri(root)
    if _is_missing(uri) or count_moved(root):
        with _store_lock(root):
            _prepare_sqlite(uri, root)


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Hide MLflow's lines about creating its tables, and torch.export's about weights."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _request_timeout() -> int:
    """Return how many seconds MLflow waits for each answer of a server.

    Raises:
        UserError: if the environment variable is no whole number.
    """
    try:
        return int(MLFLOW_HTTP_REQUEST_TIMEOUT.get())
    except ValueError as error:
        raise UserError(f"{error}; it is a whole number of seconds") from None


@contextmanager
def _patient_requests(uri: str, timeout: int) -> Iterator[None]:
    """Wait PATIENT_TIMEOUT for each answer; say so after ``timeout`` seconds, the usual wait."""
    line = f"the MLflow store {mask_address(uri)} is slow to answer: waiting"
    timer = threading.Timer(timeout, print, (line,), {"file": sys.stderr})
    timer.daemon = True
    timer.start()
    MLFLOW_HTTP_REQUEST_TIMEOUT.set(max(timeout, PATIENT_TIMEOUT))
    try:
        yield
    finally:
        timer.cancel()
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(timeout)


@contextmanager
def _store_lock(root: Path) -> Iterator[None]:
    """Keep two processes from creating an SQLite store, or an experiment, at once."""
    file = sqlite_file(tracking_uri(root))
    with lock((file.parent if file else root) / ".mlflow.lock"):
        yield


def _is_missing(uri: str) -> bool:
    """Return whether a store is an SQLite file that does not exist yet."""
    file = sqlite_file(uri)
    return file is not None and not file.exists()


def _prepare_sqlite(uri: str, root: Path) -> None:
    """Create an SQLite store that is missing, or correct one that was moved with the project."""
    file = sqlite_file(uri)
    if file is None:
        return
    if not file.exists():
        _create_sqlite(file)
    elif moved := relocate_artifacts(file, root):
        line = f"the project was moved: {moved} locations of artifacts in {file} follow it"
        print(line, file=sys.stderr)


def _create_sqlite(file: Path) -> None:
    """Create an SQLite store that does not exist yet, whole or not at all.

    MLflow creates its tables in hundreds of steps, and cannot use a store that has only some.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # it takes a second

    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
        new = Path(folder, file.name)
        store = SqlAlchemyStore(sqlite_address(new), artifact_uri(file.parent))
        store.engine.dispose()
        write_file(file, new.read_bytes())


def _create_experiment(client: mlflow.MlflowClient, name: str, artifacts: str | None) -> str:
    """Create an experiment and return its id, also if another host creates it at this moment."""
    try:
        return str(client.create_experiment(name, artifact_location=artifacts))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)
