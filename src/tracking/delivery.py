"""Delivery of outboxes to MLflow, each event once."""

import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from ..common.errors import UserError
from ..common.logging import logger
from .address import TRACKING_FOLDER, store_key, tracking_uri
from .failures import STORE_ERRORS, is_refusal, refusal, short_reason, store_error, uploading
from .outbox import Event, Outbox, idle_outboxes, prune_outboxes
from .registry import log_model
from .store import check_store, ensure_experiment, ensure_sqlite, is_reachable, quiet_mlflow

METRICS_PER_CALL = 1000  # MLflow's limit for one log_batch
PARAMS_PER_CALL = 100
KEY_TAG = "run.key"  # identifies a run before MLflow gives it an id


@dataclass(frozen=True)
class SyncResult:
    """Outcome of delivering the outboxes of ended processes."""

    delivered: Sequence[str]  # names of runs
    undelivered: Sequence[str]  # names of runs
    other_stores: Sequence[str]  # addresses of other stores for which runs wait


class Delivery:
    """Delivery of one outbox to MLflow.

    A header's entries "asked" and "key" guard the creation of the run: a call whose answer was
    lost may have created it, and then it is found by its key.
    """

    def __init__(self, outbox: Outbox, root: Path, error: UserError | None = None) -> None:
        self.error = error  # why the last delivery failed
        self._outbox, self._root = outbox, root
        # Whether the first pending event may have arrived: by a call whose answer was lost.
        self._may_have_arrived = True
        self._refusals: set[str] = set()  # those of which a warning told

    def deliver(self, seconds: float) -> None:
        """Deliver events in order, for about ``seconds``; after a failure the rest stays pending.

        What MLflow will never accept is left out with a warning.
        """
        deadline = time.monotonic() + seconds
        outbox, uri = self._outbox, tracking_uri(self._root)
        try:
            with quiet_mlflow():
                ensure_sqlite(self._root)  # somebody may have deleted it
                client = mlflow.MlflowClient(uri)
                run_id = self.ensure_run(client)
                while outbox.pending and time.monotonic() < deadline:
                    count = self._deliver_batch(client, run_id, outbox.events[outbox.delivered :])
                    outbox.set_delivered(outbox.delivered + count)
                    self._may_have_arrived = not count
                    if not count:
                        run_id = self.ensure_run(client)
        except (*STORE_ERRORS, UserError) as error:
            self._may_have_arrived = True
            was_away = self.error is not None
            self.error = error if isinstance(error, UserError) else store_error(uri, error)
            if not was_away:
                warn_waiting(self.error, self._root)
        else:
            if self.error is not None:
                print("MLflow can be reached again", file=sys.stderr)
            self.error = None

    def ensure_run(self, client: mlflow.MlflowClient) -> str:
        """Return the run's id in MLflow; a run that is missing or was deleted is created."""
        header = self._outbox.header
        # The run that the header names.
        if header["run_id"] is not None:
            if not self._may_have_arrived or _find_run(client, header["run_id"]):
                return str(header["run_id"])
            # Somebody deleted it: deliver everything again, to a new run.
            self._outbox.update_header(run_id=None, asked=False, key=uuid.uuid4().hex)
            self._outbox.set_delivered(0)
        # A run that was created by a call whose answer was lost.
        experiment = ensure_experiment(client, self._root, header["experiment"])
        run = None
        if header["asked"]:
            condition = f"tags.`{KEY_TAG}` = '{header['key']}'"
            run = next(iter(client.search_runs([experiment], condition)), None)
        # A new run.
        if run is None:
            self._outbox.update_header(asked=True)
            tags = {**header["tags"], KEY_TAG: header["key"]}
            run = client.create_run(
                experiment, start_time=header["time"], tags=tags, run_name=header["name"]
            )
        self._outbox.update_header(run_id=run.info.run_id)
        return str(run.info.run_id)

    def _deliver_batch(
        self, client: mlflow.MlflowClient, run_id: str, events: Sequence[Event]
    ) -> int:
        """Deliver the first events, as many as one call takes.

        Returns:
            the number of events delivered; 0 if somebody deleted the run.
        """
        count, metrics = _first_metrics(events)
        try:
            if count:
                # MLflow ignores a value that it has already with the same step and time.
                client.log_batch(run_id, metrics=metrics)
            else:
                self._deliver_event(client, run_id, events[0])
            return max(count, 1)
        except STORE_ERRORS as error:
            if not is_refusal(error, events[0]["kind"], tracking_uri(self._root)):
                raise
            failure = error
        run = _find_run(client, run_id)
        if run is None:
            return 0
        if count > 1:  # each by itself: only some are unacceptable
            return sum(self._deliver_batch(client, run_id, [event]) for event in events[:count])
        self._warn_refusal(failure, events[0], run.info.artifact_uri)
        return 1

    def _warn_refusal(self, error: Exception, event: Event, artifacts: str) -> None:
        """Warn of an event that the store refuses, for each reason once.

        Raises:
            Exception: ``error``, if it is no refusal.
        """
        reason = short_reason(error)
        text = refusal(
            error, event, self._outbox.attachment(event) if "file" in event else None, artifacts
        )
        if text is None:
            raise error
        if reason not in self._refusals:
            self._refusals.add(reason)
            logger.warning(text)

    def _deliver_event(self, client: mlflow.MlflowClient, run_id: str, event: Event) -> None:
        """Deliver one event that is no metric."""
        kind = event["kind"]
        if kind == "params":
            log_params(client, run_id, event["values"])
        elif kind == "tag":
            client.set_tag(run_id, event["key"], event["value"])
        elif kind == "status":
            client.update_run(run_id, status=event["status"])
        elif kind == "end":
            client.set_terminated(run_id, event["status"], event["time"])
        elif kind == "files":
            with uploading():
                client.log_artifacts(run_id, str(self._outbox.attachment(event)), event["to"])
        elif kind == "generator":
            folder = self._outbox.attachment(event)
            with uploading():
                log_model(client, self._root, run_id, event, folder, self._may_have_arrived)
        else:
            raise ValueError(f"{kind}: no such kind of event")


def sync(root: Path) -> SyncResult:
    """Deliver everything that waits, however long it takes.

    Raises:
        UserError: if the store cannot be reached.
    """
    check_store(root)
    return deliver_waiting(root, float("inf"))


def deliver_waiting(root: Path, seconds: float) -> SyncResult:
    """Deliver the outboxes of processes that have ended, for about ``seconds``.

    A run whose process was killed ends as KILLED.
    """
    deadline = time.monotonic() + seconds
    store = store_key(root, tracking_uri(root))
    delivered: list[str] = []
    undelivered: list[str] = []
    other_stores: set[str] = set()
    resumable: list[Path] = []
    is_away = False
    for outbox in idle_outboxes(root):
        if not outbox.has_ended:
            outbox.append({"kind": "end", "status": "KILLED"})
        if outbox.pending and outbox.header["store"] != store:
            other_stores.add(outbox.header["store"])
        elif outbox.pending:
            # Once the store turns out to be away, the other outboxes do not wait for it too.
            if not is_away and time.monotonic() < deadline:
                delivery = Delivery(outbox, root)
                delivery.deliver(deadline - time.monotonic())
                is_away = delivery.error is not None and not is_reachable(root)
            (undelivered if outbox.pending else delivered).append(outbox.header["name"])
        if not outbox.pending and outbox.header["goes_on"]:
            resumable.append(outbox.folder)
        remove_if_done(outbox)
    prune_outboxes(root, resumable)
    if delivered:
        print(f"delivered to MLflow the waiting runs {', '.join(delivered)}", file=sys.stderr)
    return SyncResult(delivered, undelivered, sorted(other_stores))


def remove_if_done(outbox: Outbox) -> None:
    """Remove an outbox that is delivered and gets no more events."""
    if not outbox.pending and not outbox.header["goes_on"]:
        outbox.remove()


def log_params(client: mlflow.MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    """Log the parameters of a run, in as many calls as MLflow needs."""
    items = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(items), PARAMS_PER_CALL):
        client.log_batch(run_id, params=items[start : start + PARAMS_PER_CALL])


def warn_waiting(error: UserError, root: Path) -> None:
    """Warn that the store is away and that what is logged is kept on disk."""
    logger.warning(f"{error}; what is logged waits in {root / TRACKING_FOLDER}")


def _find_run(client: mlflow.MlflowClient, run_id: str) -> Run | None:
    """Return a run of the store, or None if it has none or somebody deleted it."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _first_metrics(events: Sequence[Event]) -> tuple[int, list[Metric]]:
    """Return how many of the first events are metrics that fit into one call, and those metrics."""
    metrics: list[Metric] = []
    for count, event in enumerate(events):
        if event["kind"] != "metrics":
            return count, metrics
        more = [
            Metric(name, value, event["time"], event["step"])
            for name, value in event["values"].items()
        ]
        if metrics and len(metrics) + len(more) > METRICS_PER_CALL:
            return count, metrics
        metrics += more
    return len(events), metrics
