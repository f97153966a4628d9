"""MLflow, behind one class; no other module of the project imports it.

What is logged is queued and delivered in batches, so that logging costs next to nothing while a
network trains. The default store is sqlite beside the project; MLFLOW_TRACKING_URI moves it. A
store that cannot be reached is refused before any work starts; one that goes away later does not
stop the work: what is queued is tried again, and a warning tells what could not be delivered.
"""

import fcntl
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from src.errors import UserError

# Read by MLflow when it is imported: no usage statistics, no bars for small files, and short waits
# for a dead server.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow
import mlflow.artifacts
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

# It prints a traceback of what a database refuses, which is told here in one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

# What a store that is away, full or damaged makes MLflow raise.
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError)
EXPERIMENT = "chest-xray-gan"
PARENT = "mlflow.parentRunId"
CANDIDATE, CHAMPION = "candidate", "champion"  # aliases of versions of registered models
MODEL_FOLDER = "generator"  # within a logged model, what its code loads
METRICS_PER_CALL = 1000  # MLflow's limit for one log_batch
PARAMS_PER_CALL = 100
SECONDS_BETWEEN_DELIVERIES = 15.0
# How MLflow names the images of a series.
IMAGE_FILE = re.compile(r"images/(?P<series>[^+]+)\+step\+(?P<step>[0-9]+)\+.*\.png")


class Run:
    """One MLflow run that is being written."""

    def __init__(
        self, client: mlflow.MlflowClient, run_id: str, delivered: "Delivered | None" = None
    ) -> None:
        self.run_id = run_id
        self._client = client
        self._before = delivered or Delivered()
        self._metrics: list[Metric] = []
        self._queue: list[tuple[str, Callable[[], object]]] = []
        self._delivered = time.monotonic()

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Queue numbers at one step; they are delivered every fifteen seconds and at the end."""
        now = int(time.time() * 1000)
        self._metrics += [
            Metric(name, float(value), now, step)
            for name, value in values.items()
            if (name, step) not in self._before.metrics
        ]
        if time.monotonic() - self._delivered > SECONDS_BETWEEN_DELIVERIES:
            self._deliver()

    def log_image(self, series: str, image: NDArray[np.uint8], step: int) -> None:
        """Queue one image, uint8 (h, w), of a series that the UI shows by step."""
        if (series, step) in self._before.images:
            return
        picture = Image.fromarray(image)
        self._put(
            f"image {series} at step {step}",
            lambda: self._client.log_image(self.run_id, picture, key=series, step=step),
        )

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Queue a file, which must stay until the run ends."""
        self._put(
            f"file {path.name}", lambda: self._client.log_artifact(self.run_id, str(path), folder)
        )

    def log_table(self, name: str, table: pd.DataFrame) -> None:
        """Queue a table that the UI shows, under ``name`` (ending in .json)."""
        self._put(f"table {name}", lambda: self._client.log_table(self.run_id, table, name))

    def log_generator(self, package: "Package") -> None:
        """Queue a generator as a new version of its registered model, and its candidate."""
        self._put(f"model {package.name}", lambda: _log_model(self._client, self.run_id, package))

    def set_tag(self, key: str, value: str) -> None:
        """Queue a tag of the run."""
        self._put(f"tag {key}", lambda: self._client.set_tag(self.run_id, key, value))

    def close(self) -> None:
        """Deliver everything; say on stderr what could not be delivered."""
        self._deliver()
        lost = [name for name, _ in self._queue]
        if self._metrics:
            lost.append(f"{len(self._metrics)} metrics")
        if lost:
            print(f"warning: not delivered to MLflow: {', '.join(lost)}", file=sys.stderr)

    def terminate(self, status: str) -> None:
        """Say how it ended: FINISHED, FAILED or KILLED."""
        _terminate(self._client, self.run_id, status)

    def _put(self, name: str, action: Callable[[], object]) -> None:
        self._queue.append((name, action))

    def _deliver(self) -> None:
        """Send what is queued; on a failure the rest stays queued for the next time."""
        try:
            while self._metrics:
                part = self._metrics[:METRICS_PER_CALL]
                self._client.log_batch(self.run_id, metrics=part)
                del self._metrics[: len(part)]
            while self._queue:
                self._queue[0][1]()
                del self._queue[0]
        except STORE_ERRORS as error:
            print(f"warning: MLflow cannot be reached: {_one_line(error)}", file=sys.stderr)
        self._delivered = time.monotonic()


@dataclass(frozen=True)
class Delivered:
    """What a run that is taken up again holds already; it is not delivered a second time."""

    metrics: frozenset[tuple[str, int]] = frozenset()  # name and step
    images: frozenset[tuple[str, int]] = frozenset()  # series and step


@dataclass(frozen=True)
class Package:
    """A generator to be handed on."""

    name: str  # of the registered model
    build: Callable[[Path], None]  # writes what the code loads into a folder
    code: Path  # a module with _load_pyfunc, which imports nothing of the project
    requires: tuple[str, ...]  # packages that the code imports
    tags: Mapping[str, str]  # of the version


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    number: int
    tags: Mapping[str, str]


@contextmanager
def start_run(
    name: str,
    root: Path,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    resume: str | None = None,
    parent: str | None = None,
) -> Iterator[Run]:
    """Open a run; it ends as finished, failed or killed, as the block does.

    Args:
        name: shown in the UI.
        root: the project's folder, where the default store lies.
        params: logged as the run's parameters.
        tags: logged as the run's tags.
        resume: id of a run that was cut off. If the store has it, with the same parameters, it is
            taken up again, and what it holds is not logged twice; else a new run is made.
        parent: id of the run under which the UI shows it.

    Raises:
        UserError: if the store cannot be reached.
    """
    uri = tracking_uri(root)
    try:
        with _one_at_a_time(root), _quiet():
            mlflow.set_tracking_uri(uri)
            client = mlflow.MlflowClient(uri)
            experiment = _experiment(client, root)
        delivered = _take_up(client, resume, params) if resume else None
        if resume and delivered:
            run_id = resume
            for key, value in tags.items():
                client.set_tag(run_id, key, value)
        else:
            nested = {PARENT: parent} if parent else {}
            run_id = client.create_run(
                experiment, run_name=name, tags={**tags, **nested}
            ).info.run_id
            _log_params(client, run_id, params)
    except STORE_ERRORS as error:
        raise _unusable(uri, error) from error
    with _until_closed(Run(client, run_id, delivered)) as run:
        yield run


@contextmanager
def start_shared_run(
    name: str, root: Path, params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[Run]:
    """Open the one run of a name, which several processes may do at once; see ``start_run``."""
    try:
        with _one_at_a_time(root), _quiet():
            client = mlflow.MlflowClient(tracking_uri(root))
            experiment = _experiment(client, root)
            run_id = _oldest(client, experiment, name)
            if run_id is None:
                made = client.create_run(experiment, run_name=name, tags=dict(tags)).info.run_id
                # Another host may have made one at the same time: the older one counts.
                run_id = _oldest(client, experiment, name) or made
                if run_id != made:
                    client.delete_run(made)
            client.update_run(run_id, status="RUNNING")
            # The same for everyone who opens it.
            _log_params(client, run_id, params)
    except STORE_ERRORS as error:
        raise _unusable(tracking_uri(root), error) from error
    with _until_closed(Run(client, run_id)) as run:
        yield run


@contextmanager
def _until_closed(run: Run) -> Iterator[Run]:
    """Say how a run ended."""
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        run.close()
        run.terminate(status)


def _oldest(client: mlflow.MlflowClient, experiment: str, name: str) -> str | None:
    """The id of the oldest run of a name."""
    found = client.search_runs(
        [experiment],
        f"attributes.run_name = '{name}'",
        order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def _log_params(client: mlflow.MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    items = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(items), PARAMS_PER_CALL):
        client.log_batch(run_id, params=items[start : start + PARAMS_PER_CALL])


def end_run(root: Path, run_id: str, status: str) -> None:
    """Say how a run ended whose process cannot say so any more."""
    _terminate(mlflow.MlflowClient(tracking_uri(root)), run_id, status)


def _terminate(client: mlflow.MlflowClient, run_id: str, status: str) -> None:
    try:
        client.set_terminated(run_id, status)
    except STORE_ERRORS as error:
        print(f"warning: MLflow cannot be reached: {_one_line(error)}", file=sys.stderr)


def tracking_uri(root: Path) -> str:
    """Where runs are kept: MLFLOW_TRACKING_URI, or sqlite in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"


def find_runs(root: Path, stage: str) -> list[str]:
    """The ids of a stage's finished runs, the newest first.

    Raises:
        UserError: if the store cannot be reached.
    """
    with _reached(root) as client:
        found = client.search_runs(
            [_experiment(client, root)],
            f"tags.`dvc.stage` = '{stage}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
    return [str(run.info.run_id) for run in found]


def is_local(root: Path) -> bool:
    """Whether the store is a file or folder, which `make ui` opens, and no server."""
    return not tracking_uri(root).startswith(("http://", "https://"))


def check_store(root: Path) -> None:
    """Reach the store, without making one.

    Raises:
        UserError: if it cannot be reached.
    """
    uri = tracking_uri(root)
    if uri == f"sqlite:///{root / 'mlflow.db'}" and not (root / "mlflow.db").exists():
        return
    with _reached(root) as client:
        client.search_experiments(max_results=1)


def runs_link(root: Path, tags: Mapping[str, str]) -> str:
    """The address, in MLflow's UI, of the project's runs with these tags.

    A store without a server is opened on this machine by `make ui`.

    Raises:
        UserError: if the store cannot be reached.
    """
    server = "http://127.0.0.1:5000" if is_local(root) else tracking_uri(root)
    with _reached(root) as client:
        experiment = _experiment(client, root)
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    place = f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    place += f"&searchFilter={quote(wanted)}" if wanted else ""
    return re.sub(r"//[^/@]*@", "//", server).rstrip("/") + place


@contextmanager
def _reached(root: Path) -> Iterator[mlflow.MlflowClient]:
    """The store, for a short question.

    Raises:
        UserError: if it cannot be reached.
    """
    uri = tracking_uri(root)
    try:
        with _one_at_a_time(root), _quiet():
            yield mlflow.MlflowClient(uri)
    except STORE_ERRORS as error:
        raise _unusable(uri, error) from error


def _unusable(uri: str, error: Exception) -> UserError:
    return UserError(
        f"the MLflow store {_without_password(uri)} cannot be used ({_one_line(error)}); start its "
        "server, or unset MLFLOW_TRACKING_URI for a local store"
    )


def _experiment(client: mlflow.MlflowClient, root: Path) -> str:
    """The id of the project's experiment, made if needed.

    A local store gets an absolute artifact place, since the working folder of a run may go away.
    """
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    local = tracking_uri(root).startswith("sqlite:")
    place = (root / "mlartifacts").as_uri() if local else None
    return str(client.create_experiment(name, artifact_location=place))


def _take_up(
    client: mlflow.MlflowClient, run_id: str, params: Mapping[str, str]
) -> Delivered | None:
    """Open a run that was cut off again; what it holds, or None if it cannot be this one's.

    A run of other parameters stays as it is, marked as killed if nothing else was said of its end.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None  # another store than before, or it was deleted
        raise
    if run.info.lifecycle_stage != "active" or run.data.params != dict(params):
        if run.info.lifecycle_stage == "active" and run.info.status == "RUNNING":
            client.set_terminated(run_id, "KILLED")
        return None
    client.update_run(run_id, status="RUNNING")
    metrics = {
        (name, metric.step)
        for name in run.data.metrics
        for metric in client.get_metric_history(run_id, name)
    }
    images = {
        (found["series"], int(found["step"]))
        for file in client.list_artifacts(run_id, "images")
        if (found := IMAGE_FILE.fullmatch(file.path))
    }
    return Delivered(frozenset(metrics), frozenset(images))


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Keep two processes from opening a new sqlite store at once, which races its migration."""
    with (root / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide MLflow's lines about the making of its tables, and torch.export's about weights."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _log_model(client: mlflow.MlflowClient, run_id: str, package: Package) -> None:
    """Log a generator without pickles: a table of seeds and numbers in, PNG files out."""
    with _quiet():  # what else is imported with it takes seconds and warns
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    seed, index, png = ColSpec("long", "seed"), ColSpec("long", "index"), ColSpec("string", "png")
    signature = ModelSignature(
        Schema([seed, index]),
        Schema([seed, index, png]),
        ParamSchema([ParamSpec("truncation", "double", 0.0)]),
    )
    example = pd.DataFrame({"seed": [0, 0], "index": [0, 1]})
    with TemporaryDirectory() as place, mlflow.start_run(run_id=run_id), _quiet():
        folder = Path(place) / MODEL_FOLDER
        package.build(folder)
        logged = mlflow.pyfunc.log_model(
            name=package.name,
            loader_module=package.code.stem,
            data_path=str(folder),
            code_paths=[str(package.code)],
            signature=signature,
            input_example=(example, {"truncation": 0.0}),
            pip_requirements=[
                f"{name}=={version(name).partition('+')[0]}" for name in package.requires
            ],
            registered_model_name=package.name,
        )
    number = str(logged.registered_model_version)
    for key, value in package.tags.items():
        client.set_model_version_tag(package.name, number, key, value)
    client.set_registered_model_alias(package.name, CANDIDATE, number)


def model_version(root: Path, name: str, alias: str) -> Version | None:
    """The version of a registered model that an alias names, if there is one.

    Raises:
        UserError: if the store cannot be reached.
    """
    with _reached(root) as client:
        try:
            found = client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
    return Version(int(found.version), found.tags)


def set_alias(root: Path, name: str, alias: str, chosen: Version) -> None:
    """Let an alias of a registered model name a version.

    Raises:
        UserError: if the store cannot be reached.
    """
    with _reached(root) as client:
        client.set_registered_model_alias(name, alias, str(chosen.number))


def download_generator(root: Path, address: str, folder: Path) -> Path:
    """The generator's file of an MLflow model, brought into ``folder``.

    Raises:
        UserError: if there is no such model, or it is none of this project.
    """
    try:
        with _quiet():
            mlflow.set_tracking_uri(tracking_uri(root))
            place = mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=str(folder))
    except STORE_ERRORS as error:
        raise UserError(
            f"{address}: MLflow cannot give this model ({_one_line(error)}); `make ui` shows the "
            "registered ones"
        ) from error
    file = Path(place) / "data" / MODEL_FOLDER / "generator.pt"
    if not file.is_file():
        raise UserError(f"{address}: it is not a generator of this project")
    return file


def _one_line(error: BaseException) -> str:
    """An error's text on one line, without passwords and what a database was asked."""
    return _without_password(" ".join(str(error).partition("[SQL:")[0].split()))[:300]


def _without_password(text: str) -> str:
    """A text in which addresses lose who opens them."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)
