"""MLflow, behind one class; no other module of the project imports it.

What is logged goes to a spool on disk first, and from there to MLflow in batches, so that logging
costs next to nothing while a network trains. The default store is sqlite beside the project;
MLFLOW_TRACKING_URI moves it. A store that was never reached is refused before any work starts. One
that was, and is away now, does not stop the work: what is logged waits on disk, and the next stage
or `make sync` delivers it, everything once.
"""

import json
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from src.errors import UserError
from src.files import write_atomic, write_json
from src.locks import lock
from src.spool import Event, Spool, now, prune, spools

# Read by MLflow: no usage statistics, no bars for small files, and a short wait for a dead server,
# since what is not delivered is tried again here.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it has the password
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

import mlflow
import mlflow.artifacts
import mlflow.store.db.utils
from mlflow.entities import Metric, Param
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

# A database that is away is tried again here, and not ten times over 100 seconds.
mlflow.store.db.utils.MAX_RETRY_COUNT = 3
# It prints a traceback of what a database refuses, which is told here in one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

# What a store that is away, full or damaged makes MLflow raise, or one that needs a package of its
# own which is not installed.
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError, ImportError)
EXPERIMENT = "chest-xray-gan"
PARENT = "mlflow.parentRunId"
CANDIDATE, CHAMPION = "candidate", "champion"  # aliases of versions of registered models
LOGGED = "logged"  # tag of a version: when its run logged it, in ms since 1970
MODEL_FOLDER = "generator"  # within a logged model, what its code loads
METRICS_PER_CALL = 1000  # MLflow's limit for one log_batch
PARAMS_PER_CALL = 100
SECONDS_BETWEEN_DELIVERIES = 15.0
# A store that hangs keeps a call for MLFLOW_HTTP_REQUEST_TIMEOUT. While work goes on, a delivery
# ends with the first call that fails, or when its time is over; after a failure the next one waits.
SECONDS_OF_DELIVERY = 10.0
SECONDS_AFTER_FAILURE = 60.0
SECONDS_AT_THE_END = 60.0  # for what is left when the work is done
# For each answer of a store without which no work begins: it may be busy, or new.
SECONDS_TO_BEGIN = 60
# What MLflow's UI looks for, as its own log_image and log_table leave it. They are not used since a
# second call of theirs, after one whose answer was lost, would add a second image or more rows.
HAS_IMAGES, HAS_TABLES = "mlflow.loggedImages", "mlflow.loggedArtifacts"
THUMBNAIL = 256  # pixels of its longer side
SPOOLS = ".tracking"  # in the project's folder
REACHED = (
    "stores.json"  # there: the experiments of stores that were reached, by name, with their ids
)
KEY = "run.key"  # tag that names a run before MLflow gives it an id
# Why a server cannot be reached: MLflow says it behind the address, which it says twice.
CAUSE = re.compile(r"""\(Caused by \w+\((<[^>]*>, )?["'](\w+\([^)]*\): )?(?P<cause>.*?)["']\)\)""")
# What MLflow says of an entry that it will never take.
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class Run:
    """One run that is being written."""

    def __init__(self, spool: Spool, root: Path, away: UserError | None = None) -> None:
        self._spool, self._root = spool, root
        self._delivery = Delivery(spool, root, away)
        # What an earlier process logged that did the same work.
        self._known = {place for event in spool.events for place in _places(event)}
        self._next = time.monotonic() + SECONDS_BETWEEN_DELIVERIES

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until MLflow was reached."""
        found: str | None = self._spool.header["run_id"]
        return found

    def begin(self) -> None:
        """Make the run in MLflow.

        Raises:
            UserError: if the store is a file and cannot be used.
        """
        self.deliver(SECONDS_OF_DELIVERY)
        if self._delivery.error is not None and _is_file(tracking_uri(self._root)):
            raise self._delivery.error

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at one step."""
        new = {key: float(value) for key, value in values.items() if (key, step) not in self._known}
        if new:
            self._spool.append({"kind": "metrics", "values": new, "step": step})
        if time.monotonic() > self._next:
            self.deliver(SECONDS_OF_DELIVERY)

    def log_image(self, series: str, image: NDArray[np.uint8], step: int) -> None:
        """Log one image, uint8 (h, w), of a series that the UI shows by step."""
        if (f"image {series}", step) in self._known:
            return
        stem = f"{series}+step+{step}+timestamp+{now()}+{uuid.uuid4()}"
        place = self._spool.new_folder()
        picture = Image.fromarray(image)
        picture.save(place / f"{stem}.png")
        scale = THUMBNAIL / max(picture.size)
        small = picture.resize((int(picture.width * scale), int(picture.height * scale)))
        small.save(place / f"{stem}+compressed.webp")
        self._spool.append(
            {"kind": "files", "file": place.name, "to": "images", "series": series, "step": step}
        )
        self.set_tag(HAS_IMAGES, "True")

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a file as it is now."""
        place = self._spool.new_folder()
        shutil.copyfile(path, place / path.name)
        self._spool.append({"kind": "files", "file": place.name, "to": folder})

    def log_table(self, name: str, table: pd.DataFrame) -> None:
        """Log a table that the UI shows, under ``name`` (ending in .json)."""
        path = PurePosixPath(name)
        place = self._spool.new_folder()
        table.to_json(place / path.name, orient="split", index=False, date_format="iso")
        folder = None if len(path.parts) == 1 else str(path.parent)
        self._spool.append({"kind": "files", "file": place.name, "to": folder, "table": name})
        names = dict.fromkeys(event["table"] for event in self._spool.events if "table" in event)
        self.set_tag(HAS_TABLES, json.dumps([{"path": n, "type": "table"} for n in names]))

    def log_generator(self, package: "Package") -> None:
        """Log a generator as a new version of its registered model, and its candidate."""
        place = self._spool.new_folder()
        package.build(place / MODEL_FOLDER)
        shutil.copyfile(package.code, place / package.code.name)
        requires = [f"{name}=={version(name).partition('+')[0]}" for name in package.requires]
        self._spool.append(
            {
                "kind": "generator",
                "name": package.name,
                "code": package.code.name,
                "requires": requires,
                "tags": dict(package.tags),
                "file": place.name,
            }
        )

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        self._spool.append({"kind": "tag", "key": key, "value": value})

    def end(self, status: str) -> None:
        """Say how the work ended: FINISHED, FAILED or KILLED. Deliver everything that can be."""
        self._spool.append({"kind": "end", "status": status})
        self.deliver(SECONDS_AT_THE_END)
        if self._spool.waiting:
            print(
                f"warning: {self._spool.waiting} entries of the MLflow run "
                f"{self._spool.header['name']!r} wait in {self._spool.folder}; the next stage or "
                "`make sync` delivers them",
                file=sys.stderr,
            )

    def deliver(self, seconds: float) -> None:
        """Deliver what waits, for about so long."""
        self._delivery.go_on(seconds)
        pause = SECONDS_AFTER_FAILURE if self._delivery.error else SECONDS_BETWEEN_DELIVERIES
        self._next = time.monotonic() + pause


class Delivery:
    """From a spool to MLflow, every entry once."""

    def __init__(self, spool: Spool, root: Path, away: UserError | None = None) -> None:
        self.error = away  # of the last delivery
        self._spool, self._root = spool, root
        # What comes first may have been delivered by a call of which nobody knows how it ended.
        self._unsure = True

    def go_on(self, seconds: float) -> None:
        """Deliver in order, for about so long; what fails stays for the next time.

        What MLflow will never take is left out, with a warning.
        """
        deadline = time.monotonic() + seconds
        uri = tracking_uri(self._root)
        try:
            with _quiet():
                _ensure_sqlite(self._root)  # somebody may have deleted it
                client = mlflow.MlflowClient(uri)
                run_id = self._made(client)
                while self._spool.waiting and time.monotonic() < deadline:
                    waiting = self._spool.events[self._spool.delivered :]
                    count = self._deliver_some(client, run_id, waiting)
                    self._spool.advance(count)
                    self._unsure = not count
                    if not count:
                        run_id = self._made(client)
        except (*STORE_ERRORS, UserError) as error:
            self._unsure = True
            told = self.error is not None
            self.error = error if isinstance(error, UserError) else _unusable(uri, error)
            if not told:
                _say_it_waits(self.error, self._root)
        else:
            if self.error is not None:
                print("MLflow can be reached again", file=sys.stderr)
            self.error = None

    def _made(self, client: mlflow.MlflowClient) -> str:
        """The id of the run, which is made if it is not there."""
        header = self._spool.header
        if header["run_id"] is not None:
            if not self._unsure or _is_there(client, header["run_id"]):
                return str(header["run_id"])
            # Somebody deleted it; everything is delivered again, to a new one.
            self._spool.change_header(run_id=None, asked=False, key=uuid.uuid4().hex)
            self._spool.start_over()
        experiment = _experiment(client, self._root, header["experiment"])
        found = None
        if header["asked"]:  # by a call of which nobody knows how it ended
            wanted = f"tags.`{KEY}` = '{header['key']}'"
            found = next(iter(client.search_runs([experiment], wanted)), None)
        if found is None:
            self._spool.change_header(asked=True)
            tags = {**header["tags"], KEY: header["key"]}
            found = client.create_run(
                experiment, start_time=header["time"], tags=tags, run_name=header["name"]
            )
        self._spool.change_header(run_id=found.info.run_id)
        return str(found.info.run_id)

    def _deliver_some(
        self, client: mlflow.MlflowClient, run_id: str, events: Sequence[Event]
    ) -> int:
        """Deliver the first of some entries; how many, or 0 if somebody deleted the run."""
        count, metrics = _batch(events)
        try:
            if count:
                # A number that MLflow has already, with its time, is not added a second time.
                client.log_batch(run_id, metrics=metrics)
            else:
                self._deliver_one(client, run_id, events[0])
            return max(count, 1)
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            refusal = error
        if not _is_there(client, run_id):
            return 0
        if count > 1:  # the others may do
            return sum(self._deliver_some(client, run_id, [event]) for event in events[:count])
        kind = events[0]["kind"]
        print(f"warning: MLflow refuses some {kind}: {_one_line(refusal)}", file=sys.stderr)
        return 1

    def _deliver_one(self, client: mlflow.MlflowClient, run_id: str, event: Event) -> None:
        kind = event["kind"]
        if kind == "params":
            _log_params(client, run_id, event["values"])
        elif kind == "tag":
            client.set_tag(run_id, event["key"], event["value"])
        elif kind == "status":
            client.update_run(run_id, status=event["status"])
        elif kind == "end":
            client.set_terminated(run_id, event["status"], event["time"])
        elif kind == "files":
            client.log_artifacts(run_id, str(self._spool.file(event)), event["to"])
        elif kind == "generator":
            _log_model(client, self._root, run_id, event, self._spool.file(event), self._unsure)
        else:
            raise ValueError(f"{kind}: no such entry")


def _is_there(client: mlflow.MlflowClient, run_id: str) -> bool:
    """Whether the store has a run, and nobody deleted it."""
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _places(event: Event) -> set[tuple[str, int]]:
    """What an entry logs at a step: the names of numbers, or of a series of images."""
    if event["kind"] == "metrics":
        return {(name, event["step"]) for name in event["values"]}
    if "series" in event:
        return {(f"image {event['series']}", event["step"])}
    return set()


def _batch(events: Sequence[Event]) -> tuple[int, list[Metric]]:
    """How many of the first entries are numbers that one call takes, and those numbers."""
    metrics: list[Metric] = []
    for count, event in enumerate(events):
        if event["kind"] != "metrics":
            return count, metrics
        some = [
            Metric(name, value, event["time"], event["step"])
            for name, value in event["values"].items()
        ]
        if metrics and len(metrics) + len(some) > METRICS_PER_CALL:
            return count, metrics
        metrics += some
    return len(events), metrics


@dataclass(frozen=True)
class Package:
    """A generator to be handed on."""

    name: str  # of the registered model
    build: Callable[[Path], None]  # writes what the code loads into a folder
    code: Path  # a module with _load_pyfunc, which imports nothing of the project
    requires: tuple[str, ...]  # packages that the code imports
    tags: Mapping[str, str]  # of the version


@dataclass(frozen=True)
class Waiting:
    """What waited on disk, by the names of runs."""

    delivered: Sequence[str]
    left: Sequence[str]
    elsewhere: Sequence[str]  # other stores, for which something waits


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
        resume: names work that goes on where a process was cut off that did it before. If that
            process had the same parameters and store, its run is taken up again, and what it
            logged is not logged twice; else a new run is made. ``forget_work`` ends this.
        parent: id of the run under which the UI shows it.

    Raises:
        UserError: if the store cannot be reached, and never was.
    """
    away = _reach(root)
    place = root / SPOOLS
    header = _header(root, name, {**tags, **({PARENT: parent} if parent else {})})
    spool = _taken_up(place / resume, header, params) if resume else None
    if spool is None:
        header |= {"goes_on": resume is not None}
        spool = Spool.made(place / (resume or uuid.uuid4().hex), header)
        spool.append({"kind": "params", "values": dict(params)})
    if away is None:
        deliver_waiting(root, SECONDS_OF_DELIVERY)
    with _until_ended(spool, root, away) as run:
        if away is None:
            run.begin()
        yield run


@contextmanager
def start_shared_run(
    name: str, root: Path, params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[Run]:
    """Open the one run of a name, which several processes may do at once; see ``start_run``.

    Raises:
        UserError: if the store cannot be reached.
    """
    with _reached(root, patient=True) as client:
        experiment = _experiment(client, root, _experiment_name())
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
    header = _header(root, name, tags) | {"run_id": run_id}
    spool = Spool.made(root / SPOOLS / uuid.uuid4().hex, header)
    with _until_ended(spool, root) as run:
        yield run


def _header(root: Path, name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """What a spool says of its run."""
    return {
        "store": _without_password(tracking_uri(root)),
        "experiment": _experiment_name(),
        "name": name,
        "tags": dict(tags),
        "time": now(),
        "goes_on": False,  # whether the work may be taken up again where it was cut off
        "run_id": None,
        "asked": False,  # whether MLflow was asked to make the run
        "key": uuid.uuid4().hex,
    }


@contextmanager
def _until_ended(spool: Spool, root: Path, away: UserError | None = None) -> Iterator[Run]:
    """A run, until the block ends; say how it ended."""
    status = "FAILED"
    with closing(spool):
        run = Run(spool, root, away)
        try:
            yield run
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            run.end(status)
            _tidy(spool)


def _taken_up(folder: Path, header: Mapping[str, Any], params: Mapping[str, str]) -> Spool | None:
    """The spool of a process that was cut off in the same work, or None.

    One of other parameters or another store gets out of the way, to be delivered.
    """
    spool = Spool.found(folder, wait=True)
    if spool is None:
        return None
    same = all(spool.header[key] == header[key] for key in ("store", "experiment"))
    if same and spool.events and spool.events[0]["values"] == params:
        spool.append({"kind": "status", "status": "RUNNING"})
        for key, value in header["tags"].items():
            spool.append({"kind": "tag", "key": key, "value": value})
        return spool
    with closing(spool):
        _put_aside(spool)
    return None


def forget_work(root: Path, resume: str) -> None:
    """Say that work which could go on, see ``start_run``, is done; the next one is another."""
    spool = Spool.found(root / SPOOLS / resume, wait=True)
    if spool is not None:
        with closing(spool):
            _put_aside(spool)


def _put_aside(spool: Spool) -> None:
    """Let a spool wait for its delivery only."""
    spool.move(spool.folder.with_name(uuid.uuid4().hex))
    spool.change_header(goes_on=False)
    _tidy(spool)


def deliver_waiting(root: Path, seconds: float) -> Waiting:
    """Deliver what waits of processes that have ended, and say how they ended.

    Args:
        root: the project's folder.
        seconds: about how long.
    """
    deadline = time.monotonic() + seconds
    store = _without_password(tracking_uri(root))
    delivered: list[str] = []
    left: list[str] = []
    elsewhere: set[str] = set()
    kept: list[Path] = []
    away = False
    for spool in spools(root / SPOOLS):
        if not spool.ended:
            spool.append({"kind": "end", "status": "KILLED"})
        if spool.waiting and spool.header["store"] != store:
            elsewhere.add(spool.header["store"])
        elif spool.waiting:
            # What one has waited for in vain is not waited for by every other.
            if not away and time.monotonic() < deadline:
                delivery = Delivery(spool, root)
                delivery.go_on(deadline - time.monotonic())
                away = delivery.error is not None and not _answers(root)
            (left if spool.waiting else delivered).append(spool.header["name"])
        if not spool.waiting and spool.header["goes_on"]:
            kept.append(spool.folder)
        _tidy(spool)
    prune(root / SPOOLS, kept)
    if delivered:
        print(f"delivered to MLflow what had waited of {', '.join(delivered)}", file=sys.stderr)
    return Waiting(delivered, left, sorted(elsewhere))


def count_waiting(root: Path) -> int:
    """How many runs of processes that have ended wait to be delivered."""
    return sum(1 for spool in spools(root / SPOOLS) if spool.waiting or not spool.ended)


def sync(root: Path) -> Waiting:
    """Deliver all that waits, however long it takes.

    Raises:
        UserError: if the store cannot be reached.
    """
    check_store(root)
    return deliver_waiting(root, float("inf"))


def _tidy(spool: Spool) -> None:
    """Remove a spool that was delivered and to which nothing will be added."""
    if not spool.waiting and not spool.header["goes_on"]:
        spool.remove()


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
    try:
        mlflow.MlflowClient(tracking_uri(root)).set_terminated(run_id, status)
    except STORE_ERRORS as error:
        print(f"warning: MLflow cannot be reached: {_one_line(error)}", file=sys.stderr)


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
    with _reached(root) as client:
        found = client.search_runs(
            [_experiment(client, root, _experiment_name())],
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
    name = _experiment_name()
    try:
        with _reached(root) as client:
            experiment = _experiment(client, root, name)
    except UserError:
        remembered = _remembered(root, name)
        if remembered is None:
            raise
        experiment = remembered  # the store is away
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    place = f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    place += f"&searchFilter={quote(wanted)}" if wanted else ""
    return _without_password(server).replace("//***@", "//").rstrip("/") + place


@contextmanager
def _reached(root: Path, patient: bool = False) -> Iterator[mlflow.MlflowClient]:
    """The store, for a short question; ``patient`` if nothing can be done without its answer.

    Raises:
        UserError: if it cannot be reached.
    """
    uri = tracking_uri(root)
    usual = _seconds_for_an_answer()
    waited_for = _waited_for(uri, usual) if patient else nullcontext()
    try:
        with _one_at_a_time(root), _quiet(), waited_for:
            _make_sqlite(uri)
            yield mlflow.MlflowClient(uri)
    except STORE_ERRORS as error:
        raise _unusable(uri, error) from error


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
    line = f"the MLflow store {_without_password(uri)} takes its time to answer: waiting"
    teller = threading.Timer(usual, print, (line,), {"file": sys.stderr})
    teller.daemon = True
    teller.start()
    MLFLOW_HTTP_REQUEST_TIMEOUT.set(max(usual, SECONDS_TO_BEGIN))
    try:
        yield
    finally:
        teller.cancel()
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(usual)


def _answers(root: Path) -> bool:
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
    with _reached(root) as client:
        client.search_experiments(max_results=1)


def _unusable(uri: str, error: Exception) -> UserError:
    if isinstance(error, ImportError):
        way_out = "install the package that it names"
    elif _is_file(uri):
        way_out = "mend it, or move it away: the next run makes a new one"
    else:
        way_out = "start its server, or unset MLFLOW_TRACKING_URI for a local store"
    return UserError(
        f"the MLflow store {_without_password(uri)} cannot be used ({_one_line(error)}); {way_out}"
    )


def _reach(root: Path) -> UserError | None:
    """Reach the store; why it is away, if it is.

    Raises:
        UserError: if it cannot, and never was, or is a file.
    """
    required = _is_file(tracking_uri(root)) or _remembered(root, _experiment_name()) is None
    try:
        with _reached(root, patient=required) as client:
            _experiment(client, root, _experiment_name())
    except UserError as error:
        if required:
            raise
        _say_it_waits(error, root)
        return error
    return None


def _say_it_waits(error: UserError, root: Path) -> None:
    print(f"warning: {error}; what is logged waits in {root / SPOOLS}", file=sys.stderr)


def _is_file(uri: str) -> bool:
    """Whether a store is a file or folder of this machine."""
    return uri.startswith(("sqlite:", "file:")) or "://" not in uri


def _experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def _experiment(client: mlflow.MlflowClient, root: Path, name: str) -> str:
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
    if _remembered(root, name) != number:
        stores = _stores(root)
        stores.setdefault(_without_password(tracking_uri(root)), {})[name] = number
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


def _remembered(root: Path, name: str) -> str | None:
    """The id of an experiment when the store was last reached; None if it never was."""
    return _stores(root).get(_without_password(tracking_uri(root)), {}).get(name)


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


def _ensure_sqlite(root: Path) -> None:
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


def registered_name(label: str) -> str:
    """The registered model of a class."""
    return f"{EXPERIMENT}-{label.lower()}"


def _log_model(
    client: mlflow.MlflowClient, root: Path, run_id: str, event: Event, place: Path, unsure: bool
) -> None:
    """Log a generator without pickles: a table of seeds and numbers in, PNG files out."""
    name = event["name"]
    number = _registered(client, name, run_id) if unsure else None
    if number is None:
        number = _register(root, run_id, event, place)
    for key, value in event["tags"].items():
        client.set_model_version_tag(name, number, key, value)
    client.set_model_version_tag(name, number, LOGGED, str(event["time"]))
    # What waited while the store was away may be older than what has been delivered since.
    candidate = _alias(client, name, CANDIDATE)
    if candidate is None or int(candidate.tags.get(LOGGED, 0)) <= event["time"]:
        client.set_registered_model_alias(name, CANDIDATE, number)


def _registered(client: mlflow.MlflowClient, name: str, run_id: str) -> str | None:
    """The version of a registered model that a run has made, if it has."""
    found = client.search_model_versions(f"name = '{name}'")
    return next((str(version.version) for version in found if version.run_id == run_id), None)


def _register(root: Path, run_id: str, event: Event, place: Path) -> str:
    """Log a generator as a new version of its registered model; its number."""
    import mlflow.pyfunc  # what else is imported with it takes seconds
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    seed, index, png = ColSpec("long", "seed"), ColSpec("long", "index"), ColSpec("string", "png")
    signature = ModelSignature(
        Schema([seed, index]),
        Schema([seed, index, png]),
        ParamSchema([ParamSpec("truncation", "double", 0.0)]),
    )
    example = pd.DataFrame({"seed": [0, 0], "index": [0, 1]})
    code = place / event["code"]
    mlflow.set_tracking_uri(tracking_uri(root))
    with mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name=event["name"],
            loader_module=code.stem,
            data_path=str(place / MODEL_FOLDER),
            code_paths=[str(code)],
            signature=signature,
            input_example=(example, {"truncation": 0.0}),
            pip_requirements=event["requires"],
            registered_model_name=event["name"],
        )
    return str(logged.registered_model_version)


def model_version(root: Path, name: str, alias: str) -> Version | None:
    """The version of a registered model that an alias names, if there is one.

    Raises:
        UserError: if the store cannot be reached.
    """
    with _reached(root) as client:
        return _alias(client, name, alias)


def _alias(client: mlflow.MlflowClient, name: str, alias: str) -> Version | None:
    """The version that an alias names, if there is one."""
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
    with _model_at(root, address):
        place = mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=str(folder))
    file = Path(place) / "data" / MODEL_FOLDER / "generator.pt"
    if not file.is_file():
        raise UserError(f"{address}: it is not a generator of this project")
    return file


def scoring_app(root: Path, address: str) -> Any:
    """MLflow's server of a logged model, an ASGI application. The model's code is run.

    Raises:
        UserError: if there is no such model.
    """
    with _model_at(root, address):
        from mlflow.pyfunc import load_model, scoring_server

        return scoring_server.init(load_model(address))


@contextmanager
def _model_at(root: Path, address: str) -> Iterator[None]:
    """Ask MLflow for a model.

    Raises:
        UserError: if there is no such model.
    """
    try:
        with _quiet():
            _ensure_sqlite(root)
            mlflow.set_tracking_uri(tracking_uri(root))
            yield
    except STORE_ERRORS as error:
        raise UserError(
            f"{address}: MLflow cannot give this model ({_one_line(error)}); `make ui` shows the "
            "registered ones"
        ) from error


def _one_line(error: BaseException) -> str:
    """An error's text on one line, without passwords and what a database was asked."""
    text = " ".join(str(error).partition("[SQL:")[0].split())
    if cause := CAUSE.search(text):
        text = cause["cause"]
    return _without_password(text)[:300]


def _without_password(text: str) -> str:
    """A text in which addresses lose who opens them, before the host or behind it."""
    text = re.sub(r"//[^/\s]*@", "//***@", text)
    return re.sub(r"([?&][^=&\s]*(?:pass|secret|token)[^=&\s]*=)[^&\s]*", r"\1***", text)
