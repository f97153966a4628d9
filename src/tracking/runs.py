"""MLflow runs: opened, written to their outbox, resumed and ended."""

import json
import shutil
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
from ..common.logging import logger
from .address import (
    TRACKING_FOLDER,
    experiment_name,
    is_local,
    remembered_experiment,
    store_key,
    tracking_uri,
)
from .delivery import Delivery, deliver_waiting, log_params, remove_if_done, warn_waiting
from .failures import STORE_ERRORS, short_reason
from .outbox import Event, Outbox, now_ms
from .registered_model import ModelPackage
from .registry import MODEL_FOLDER
from .store import connect, ensure_experiment, find_experiment

PARENT_TAG = "mlflow.parentRunId"
# While work goes on, a delivery ends with the first call that fails or when its time is over; after
# a failure the next one waits longer. A store that hangs holds a call for as long as
# MLFLOW_HTTP_REQUEST_TIMEOUT. All in seconds.
DELIVERY_INTERVAL = 15.0
DELIVERY_TIMEOUT = 10.0
INTERVAL_AFTER_FAILURE = 60.0
FINAL_DELIVERY_TIMEOUT = 60.0
# Tags that MLflow's UI looks for, as MLflow's own log_image and log_table set them. Those two are
# not used: if the answer of one is lost, a second call adds a second image or more rows.
IMAGES_TAG, TABLES_TAG = "mlflow.loggedImages", "mlflow.loggedArtifacts"
THUMBNAIL_SIZE = 256  # pixels of the longer side


class Run:
    """An open run. What it logs goes to its outbox, and from there to MLflow now and then."""

    def __init__(self, outbox: Outbox, root: Path, error: UserError | None = None) -> None:
        """Write to an outbox; ``error`` says why the store is away, if it is."""
        self._outbox, self._root = outbox, root
        self._delivery = Delivery(outbox, root, error)
        # What an earlier process logged before the work was resumed.
        self._logged = {point for event in outbox.events for point in _points(event)}
        self._next_delivery = time.monotonic() + DELIVERY_INTERVAL

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until MLflow is reached."""
        run_id: str | None = self._outbox.header["run_id"]
        return run_id

    def begin(self) -> None:
        """Create the run in MLflow.

        Raises:
            UserError: if the store is a file and cannot be used.
        """
        self.deliver(DELIVERY_TIMEOUT)
        if self._delivery.error is not None and is_local(tracking_uri(self._root)):
            raise self._delivery.error

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics of one step; those that an earlier process logged are left out."""
        new = {
            name: float(value) for name, value in values.items() if (name, step) not in self._logged
        }
        if new:
            self._outbox.append({"kind": "metrics", "values": new, "step": step})
        if time.monotonic() > self._next_delivery:
            self.deliver(DELIVERY_TIMEOUT)

    def log_image(self, series: str, image: NDArray[np.uint8], step: int) -> None:
        """Log a grey image, (h, w), of a series that the UI shows by step."""
        if (f"image {series}", step) in self._logged:
            return
        stem = f"{series}+step+{step}+timestamp+{now_ms()}+{uuid.uuid4()}"
        folder = self._outbox.new_attachment()
        picture = Image.fromarray(image)
        picture.save(folder / f"{stem}.png")
        scale = THUMBNAIL_SIZE / max(picture.size)
        small = picture.resize((int(picture.width * scale), int(picture.height * scale)))
        small.save(folder / f"{stem}+compressed.webp")
        self._outbox.append(
            {"kind": "files", "file": folder.name, "to": "images", "series": series, "step": step}
        )
        self.set_tag(IMAGES_TAG, "True")

    def log_file(self, path: Path, to: str | None = None) -> None:
        """Log a copy of a file, in the artifact folder ``to`` or at the top."""
        folder = self._outbox.new_attachment()
        shutil.copyfile(path, folder / path.name)
        self._outbox.append({"kind": "files", "file": folder.name, "to": to})

    def log_table(self, name: str, table: pd.DataFrame) -> None:
        """Log a table that the UI shows, as the artifact ``name`` (a path that ends in .json)."""
        path = PurePosixPath(name)
        folder = self._outbox.new_attachment()
        table.to_json(folder / path.name, orient="split", index=False, date_format="iso")
        to = None if len(path.parts) == 1 else str(path.parent)
        self._outbox.append({"kind": "files", "file": folder.name, "to": to, "table": name})
        names = dict.fromkeys(event["table"] for event in self._outbox.events if "table" in event)
        self.set_tag(TABLES_TAG, json.dumps([{"path": n, "type": "table"} for n in names]))

    def log_generator(self, package: ModelPackage) -> None:
        """Log a generator as a new version of its registered model, and make it the candidate."""
        folder = self._outbox.new_attachment()
        package.build(folder / MODEL_FOLDER)
        shutil.copyfile(package.loader, folder / package.loader.name)
        pinned = [f"{name}=={version(name).partition('+')[0]}" for name in package.requirements]
        self._outbox.append(
            {
                "kind": "generator",
                "name": package.name,
                "code": package.loader.name,
                "requires": pinned,
                "tags": dict(package.tags),
                "file": folder.name,
            }
        )

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        self._outbox.append({"kind": "tag", "key": key, "value": value})

    def deliver(self, seconds: float) -> None:
        """Deliver what is pending, for about ``seconds``."""
        self._delivery.deliver(seconds)
        pause = INTERVAL_AFTER_FAILURE if self._delivery.error else DELIVERY_INTERVAL
        self._next_delivery = time.monotonic() + pause

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, and deliver everything that can be."""
        self._outbox.append({"kind": "end", "status": status})
        self.deliver(FINAL_DELIVERY_TIMEOUT)
        if self._outbox.pending:
            logger.warning(
                f"{self._outbox.pending} entries of the MLflow run {self._outbox.header['name']!r} "
                f"wait in {self._outbox.folder}; the next stage or `make sync` delivers them"
            )


@contextmanager
def start_run(
    name: str,
    root: Path,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    resume_key: str | None = None,
    parent: str | None = None,
) -> Iterator[Run]:
    """Open a run; it ends as FINISHED, FAILED or KILLED, as the block does.

    Args:
        name: shown in the UI.
        root: the project's folder, where the default store lies.
        params: logged as the run's parameters.
        tags: logged as the run's tags.
        resume_key: identifies work that can be resumed after an interruption. If the interrupted
            process had the same parameters and store, its run goes on, and what it logged is not
            logged twice; else a new run starts. ``archive_run`` ends this.
        parent: id of the run under which the UI shows this one.

    Raises:
        UserError: if the store cannot be reached and is local, or was never reached from here.
    """
    # Reach the store, or learn that it is away.
    error = _reach_store(root)

    # Resume the run of an interrupted process, or start a new one.
    folder = root / TRACKING_FOLDER / (resume_key or uuid.uuid4().hex)
    header = _new_header(root, name, {**tags, **({PARENT_TAG: parent} if parent else {})})
    outbox = _reopen(folder, header, params) if resume_key else None
    if outbox is None:
        outbox = Outbox.create(folder, header | {"goes_on": resume_key is not None})
        outbox.append({"kind": "params", "values": dict(params)})

    # Deliver what earlier processes left, then work.
    if error is None:
        deliver_waiting(root, DELIVERY_TIMEOUT)
    with _open_run(outbox, root, error) as run:
        if error is None:
            run.begin()
        yield run


@contextmanager
def start_shared_run(
    name: str, root: Path, params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[Run]:
    """Open the one run of a name, which several processes may have open; see ``start_run``.

    Raises:
        UserError: if the store cannot be reached.
    """
    with connect(root, patient=True) as client:
        experiment = ensure_experiment(client, root, experiment_name())
        run_id = _oldest_run(client, experiment, name)
        if run_id is None:
            created = client.create_run(experiment, run_name=name, tags=dict(tags)).info.run_id
            # If another host created one at the same time, the older one counts.
            run_id = _oldest_run(client, experiment, name) or created
            if run_id != created:
                client.delete_run(created)
        client.update_run(run_id, status="RUNNING")
        # These are the same in every process that opens the run.
        log_params(client, run_id, params)
    header = _new_header(root, name, tags) | {"run_id": run_id}
    outbox = Outbox.create(root / TRACKING_FOLDER / uuid.uuid4().hex, header)
    with _open_run(outbox, root) as run:
        yield run


def archive_run(root: Path, resume_key: str) -> None:
    """Archive the run of resumable work that is done; the same work then starts a new run."""
    outbox = Outbox.open(root / TRACKING_FOLDER / resume_key, wait=True)
    if outbox is not None:
        with closing(outbox):
            _archive(outbox)


def end_run(root: Path, run_id: str, status: str) -> None:
    """End a run whose own process was killed."""
    try:
        mlflow.MlflowClient(tracking_uri(root)).set_terminated(run_id, status)
    except STORE_ERRORS as error:
        logger.warning(f"MLflow cannot be reached: {short_reason(error)}")


def _points(event: Event) -> set[tuple[str, int]]:
    """Return what an event logs, as pairs of a step and the name of a metric or an image series."""
    if event["kind"] == "metrics":
        return {(name, event["step"]) for name in event["values"]}
    if "series" in event:
        return {(f"image {event['series']}", event["step"])}
    return set()


def _reach_store(root: Path) -> UserError | None:
    """Reach the store, and return why it is away, if it is.

    Raises:
        UserError: if it cannot be reached and is local, or was never reached from here.
    """
    name = experiment_name()
    is_required = is_local(tracking_uri(root)) or remembered_experiment(root, name) is None
    try:
        find_experiment(root, name, patient=is_required)
    except UserError as error:
        if is_required:
            raise
        warn_waiting(error, root)
        return error
    return None


def _new_header(root: Path, name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the header of a new run's outbox."""
    return {
        "store": store_key(root, tracking_uri(root)),
        "experiment": experiment_name(),
        "name": name,
        "tags": dict(tags),
        "time": now_ms(),
        "goes_on": False,  # whether the work can be resumed after an interruption
        "run_id": None,
        "asked": False,  # whether MLflow was asked to create the run
        "key": uuid.uuid4().hex,  # value of the run's tag KEY_TAG
    }


def _reopen(folder: Path, header: Mapping[str, Any], params: Mapping[str, str]) -> Outbox | None:
    """Reopen the outbox of interrupted work, or return None if there is none.

    An outbox of other parameters or another store is archived.
    """
    outbox = Outbox.open(folder, wait=True)
    if outbox is None:
        return None
    is_same_store = all(outbox.header[key] == header[key] for key in ("store", "experiment"))
    if is_same_store and outbox.events and outbox.events[0]["values"] == params:
        outbox.append({"kind": "status", "status": "RUNNING"})
        for key, value in header["tags"].items():
            outbox.append({"kind": "tag", "key": key, "value": value})
        return outbox
    with closing(outbox):
        _archive(outbox)
    return None


def _archive(outbox: Outbox) -> None:
    """Keep an outbox for its delivery only; nothing resumes it any more."""
    outbox.rename(outbox.folder.with_name(uuid.uuid4().hex))
    outbox.update_header(goes_on=False)
    remove_if_done(outbox)


@contextmanager
def _open_run(outbox: Outbox, root: Path, error: UserError | None = None) -> Iterator[Run]:
    """Open the run of an outbox, and end it as the block ends."""
    status = "FAILED"
    with closing(outbox):
        run = Run(outbox, root, error)
        try:
            yield run
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            run.end(status)
            remove_if_done(outbox)


def _oldest_run(client: mlflow.MlflowClient, experiment: str, name: str) -> str | None:
    """Return the id of the oldest run of a name, or None."""
    runs = client.search_runs(
        [experiment],
        f"attributes.run_name = '{name}'",
        order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        max_results=1,
    )
    return str(runs[0].info.run_id) if runs else None
