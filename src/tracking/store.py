"""The tracking store: where it lies, whether it answers, its experiment."""

import json
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import quote

import mlflow
import mlflow.store.db.utils
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ..common.errors import UserError
from ..common.files import write_atomic, write_json
from ..common.locks import lock

# A database that is away is tried again here, and not ten times over 100 seconds.
mlflow.store.db.utils.MAX_RETRY_COUNT = 3
# It prints a traceback of what a database refuses, which is told here in one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

# What a store that is away, full or damaged makes MLflow raise, or one that needs a package of its
# own which is not installed.
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError, ImportError)
EXPERIMENT = "chest-xray-gan"
# For each answer of a store without which no work begins: it may be busy, or new.
SECONDS_TO_BEGIN = 60
SPOOLS = ".tracking"  # in the project's folder
REACHED = (
    "stores.json"  # there: the experiments of stores that were reached, by name, with their ids
)

# Why a server cannot be reached: MLflow says it behind the address, which it says twice.
CAUSE = re.compile(r"""\(Caused by \w+\((<[^>]*>, )?["'](\w+\([^)]*\): )?(?P<cause>.*?)["']\)\)""")


def tracking_uri(root: Path) -> str:
    """Where runs are kept: MLFLOW_TRACKING_URI, or sqlite in the project's folder.

    A relative path is relative to that folder, not to the copy of it that DVC makes for a queued
    experiment and removes.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    for start in ("sqlite:///", "file:"):
        path = uri.removeprefix(start)
        if path != uri and not path.startswith(("/", ":memory:")):
            return f"{start}{root / path}"
    is_path = ":" not in uri and uri != "databricks"
    return str(root / uri) if is_path else uri


def find_runs(root: Path, stage: str) -> list[str]:
    """The ids of a stage's finished runs, the newest first.

    Raises:
        UserError: if the store cannot be reached.
    """
    with connect(root) as client:
        found = client.search_runs(
            [ensure_experiment(client, root, experiment_name())],
            f"tags.`dvc.stage` = '{stage}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
    return [str(run.info.run_id) for run in found]


def has_server(root: Path) -> bool:
    """Whether the store is a server with a UI of its own; `make ui` opens any other."""
    return tracking_uri(root).startswith(("http://", "https://"))


def check_store(root: Path) -> None:
    """Reach the store, without making one.

    Raises:
        UserError: if it cannot be reached.
    """
    if not _is_missing(tracking_uri(root)):
        _ask(root)


def runs_link(root: Path, tags: Mapping[str, str]) -> str:
    """The address, in MLflow's UI, of the project's runs with these tags.

    A store without a server is opened on this machine by `make ui`.

    Raises:
        UserError: if the store cannot be reached.
    """
    server = tracking_uri(root) if has_server(root) else "http://127.0.0.1:5000"
    name = experiment_name()
    try:
        with connect(root) as client:
            experiment = ensure_experiment(client, root, name)
    except UserError:
        remembered = known_experiment(root, name)
        if remembered is None:
            raise
        experiment = remembered  # the store is away
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    place = f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    place += f"&searchFilter={quote(wanted)}" if wanted else ""
    return hide_password(server).replace("//***@", "//").rstrip("/") + place


@contextmanager
def connect(root: Path, patient: bool = False) -> Iterator[mlflow.MlflowClient]:
    """The store, for a short question; ``patient`` if nothing can be done without its answer.

    Raises:
        UserError: if it cannot be reached.
    """
    uri = tracking_uri(root)
    usual = _seconds_for_an_answer()
    waited_for = _waited_for(uri, usual) if patient else nullcontext()
    try:
        with _one_at_a_time(root), quiet_mlflow(), waited_for:
            _make_sqlite(uri)
            yield mlflow.MlflowClient(uri)
    except STORE_ERRORS as error:
        raise store_error(uri, error) from error


def _seconds_for_an_answer() -> int:
    """How long MLflow waits for each answer of a server.

    Raises:
        UserError: if the environment names no such time.
    """
    try:
        return int(MLFLOW_HTTP_REQUEST_TIMEOUT.get())
    except ValueError as error:
        raise UserError(f"{error}; it is a whole number of seconds") from None


@contextmanager
def _waited_for(uri: str, usual: int) -> Iterator[None]:
    """Let a server take its time for each answer; if it does, say what is waited for."""
    line = f"the MLflow store {hide_password(uri)} takes its time to answer: waiting"
    teller = threading.Timer(usual, print, (line,), {"file": sys.stderr})
    teller.daemon = True
    teller.start()
    MLFLOW_HTTP_REQUEST_TIMEOUT.set(max(usual, SECONDS_TO_BEGIN))
    try:
        yield
    finally:
        teller.cancel()
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(usual)


def is_answering(root: Path) -> bool:
    """Whether the store can be asked something now."""
    try:
        _ask(root)
    except UserError:
        return False
    return True


def _ask(root: Path) -> None:
    """Ask the store for anything.

    Raises:
        UserError: if it cannot be reached.
    """
    with connect(root) as client:
        client.search_experiments(max_results=1)


def store_error(uri: str, error: Exception) -> UserError:
    """Describe why the store cannot be used, and the way out."""
    if isinstance(error, ImportError):
        way_out = "install the package that it names"
    elif is_local(uri):
        way_out = "mend it, or move it away: the next run makes a new one"
    else:
        way_out = "start its server, or unset MLFLOW_TRACKING_URI for a local store"
    return UserError(
        f"the MLflow store {hide_password(uri)} cannot be used ({short_reason(error)}); {way_out}"
    )


def is_local(uri: str) -> bool:
    """Whether a store is a file or folder of this machine."""
    return uri.startswith(("sqlite:", "file:")) or "://" not in uri


def experiment_name() -> str:
    """Name of the MLflow experiment: MLFLOW_EXPERIMENT_NAME or the project's."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def ensure_experiment(client: mlflow.MlflowClient, root: Path, name: str) -> str:
    """The id of an experiment, made if needed, and remembered for when the store is away.

    A local store gets an absolute artifact place, since the working folder of a run may go away.

    Raises:
        UserError: if somebody deleted the experiment.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {name} was deleted: restore it (`mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`), or choose another by MLFLOW_EXPERIMENT_NAME"
        )
    if found is not None:
        number = str(found.experiment_id)
    else:
        local = tracking_uri(root).startswith("sqlite:")
        place = _artifacts(root) if local else None
        number = _made_experiment(client, name, place)
    if known_experiment(root, name) != number:
        stores = _stores(root)
        stores.setdefault(hide_password(tracking_uri(root)), {})[name] = number
        write_json(root / SPOOLS / REACHED, stores)
    return number


def _made_experiment(client: mlflow.MlflowClient, name: str, place: str | None) -> str:
    """Make an experiment; its id, whoever was first where another host makes it at this moment."""
    try:
        return str(client.create_experiment(name, artifact_location=place))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _artifacts(folder: Path) -> str:
    """Where the files of a local store's runs lie."""
    return (folder / "mlartifacts").as_uri()


def known_experiment(root: Path, name: str) -> str | None:
    """The id of an experiment when the store was last reached; None if it never was."""
    return _stores(root).get(hide_password(tracking_uri(root)), {}).get(name)


def _stores(root: Path) -> dict[str, dict[str, str]]:
    file = root / SPOOLS / REACHED
    found: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.exists() else {}
    return found


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Keep two processes from making a sqlite store, or an experiment, at once."""
    file = _sqlite_file(tracking_uri(root))
    with lock((file.parent if file else root) / ".mlflow.lock"):
        yield


def _sqlite_file(uri: str) -> Path | None:
    """Where a sqlite store lies, if a store is one."""
    if not uri.startswith("sqlite:"):
        return None
    try:
        database = make_url(uri).database
    except ArgumentError:
        raise UserError(
            f"MLFLOW_TRACKING_URI: {uri} is no address of a store; sqlite:///FILE would be one"
        ) from None
    return Path(database) if database else None


def _is_missing(uri: str) -> bool:
    """Whether a store is a sqlite file that is not there yet."""
    file = _sqlite_file(uri)
    return file is not None and not file.exists()


def ensure_sqlite(root: Path) -> None:
    """Make a sqlite store if the store is one and is not there, as one process of several."""
    uri = tracking_uri(root)
    if _is_missing(uri):
        with _one_at_a_time(root):
            _make_sqlite(uri)


def _make_sqlite(uri: str) -> None:
    """Make a sqlite store that is not there yet, whole or not at all.

    MLflow makes its tables in hundreds of steps, and cannot use a store that has only some.
    """
    file = _sqlite_file(uri)
    if file is None or file.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # it takes a second

    with tempfile.TemporaryDirectory(prefix="mlflow-") as place:
        new = Path(place, file.name)
        store = SqlAlchemyStore(f"sqlite:///{new}", _artifacts(file.parent))
        store.engine.dispose()
        write_atomic(file, new.read_bytes())


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Hide MLflow's lines about the making of its tables, and torch.export's about weights."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def short_reason(error: BaseException) -> str:
    """An error's text on one line, without passwords and what a database was asked."""
    text = " ".join(str(error).partition("[SQL:")[0].split())
    if cause := CAUSE.search(text):
        text = cause["cause"]
    return hide_password(text)[:300]


def hide_password(text: str) -> str:
    """A text in which addresses lose who opens them, before the host or behind it."""
    text = re.sub(r"//[^/\s]*@", "//***@", text)
    return re.sub(r"([?&][^=&\s]*(?:pass|secret|token)[^=&\s]*=)[^&\s]*", r"\1***", text)
