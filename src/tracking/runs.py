"""Runs of MLflow: opened, written to the outbox, and ended."""

import json
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..common.errors import UserError
from .delivery import Delivery, deliver_waiting, log_params, remove_if_done, warn_waiting
from .outbox import Event, Spool, now
from .registry import MODEL_FOLDER, Package
from .store import (
    SPOOLS,
    STORE_ERRORS,
    connect,
    ensure_experiment,
    experiment_name,
    hide_password,
    is_local,
    known_experiment,
    short_reason,
    tracking_uri,
)

PARENT = "mlflow.parentRunId"
SECONDS_BETWEEN_DELIVERIES = 15.0
# A store that hangs keeps a call for MLFLOW_HTTP_REQUEST_TIMEOUT. While work goes on, a delivery
# ends with the first call that fails, or when its time is over; after a failure the next one waits.
SECONDS_OF_DELIVERY = 10.0
SECONDS_AFTER_FAILURE = 60.0
SECONDS_AT_THE_END = 60.0  # for what is left when the work is done
# What MLflow's UI looks for, as its own log_image and log_table leave it. They are not used since a
# second call of theirs, after one whose answer was lost, would add a second image or more rows.
HAS_IMAGES, HAS_TABLES = "mlflow.loggedImages", "mlflow.loggedArtifacts"
THUMBNAIL = 256  # pixels of its longer side


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
        if self._delivery.error is not None and is_local(tracking_uri(self._root)):
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


def _places(event: Event) -> set[tuple[str, int]]:
    """What an entry logs at a step: the names of numbers, or of a series of images."""
    if event["kind"] == "metrics":
        return {(name, event["step"]) for name in event["values"]}
    if "series" in event:
        return {(f"image {event['series']}", event["step"])}
    return set()


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
    with connect(root, patient=True) as client:
        experiment = ensure_experiment(client, root, experiment_name())
        run_id = _oldest(client, experiment, name)
        if run_id is None:
            made = client.create_run(experiment, run_name=name, tags=dict(tags)).info.run_id
            # Another host may have made one at the same time: the older one counts.
            run_id = _oldest(client, experiment, name) or made
            if run_id != made:
                client.delete_run(made)
        client.update_run(run_id, status="RUNNING")
        # The same for everyone who opens it.
        log_params(client, run_id, params)
    header = _header(root, name, tags) | {"run_id": run_id}
    spool = Spool.made(root / SPOOLS / uuid.uuid4().hex, header)
    with _until_ended(spool, root) as run:
        yield run


def _header(root: Path, name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """What a spool says of its run."""
    return {
        "store": hide_password(tracking_uri(root)),
        "experiment": experiment_name(),
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
            remove_if_done(spool)


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
    remove_if_done(spool)


def _oldest(client: mlflow.MlflowClient, experiment: str, name: str) -> str | None:
    """The id of the oldest run of a name."""
    found = client.search_runs(
        [experiment],
        f"attributes.run_name = '{name}'",
        order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def end_run(root: Path, run_id: str, status: str) -> None:
    """Say how a run ended whose process cannot say so any more."""
    try:
        mlflow.MlflowClient(tracking_uri(root)).set_terminated(run_id, status)
    except STORE_ERRORS as error:
        print(f"warning: MLflow cannot be reached: {short_reason(error)}", file=sys.stderr)


def _reach(root: Path) -> UserError | None:
    """Reach the store; why it is away, if it is.

    Raises:
        UserError: if it cannot, and never was, or is a file.
    """
    required = is_local(tracking_uri(root)) or known_experiment(root, experiment_name()) is None
    try:
        with connect(root, patient=required) as client:
            ensure_experiment(client, root, experiment_name())
    except UserError as error:
        if required:
            raise
        warn_waiting(error, root)
        return error
    return None
