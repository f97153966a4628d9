"""Delivery of what is logged from the outbox to MLflow, every entry once."""

import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from ..common.errors import UserError
from .outbox import Event, Spool, prune, spools
from .registry import log_model
from .store import (
    SPOOLS,
    STORE_ERRORS,
    check_store,
    ensure_experiment,
    ensure_sqlite,
    hide_password,
    is_answering,
    quiet_mlflow,
    short_reason,
    store_error,
    tracking_uri,
)

METRICS_PER_CALL = 1000  # MLflow's limit for one log_batch
PARAMS_PER_CALL = 100
KEY = "run.key"  # tag that names a run before MLflow gives it an id
# What MLflow says of an entry that it will never take.
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


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
            with quiet_mlflow():
                ensure_sqlite(self._root)  # somebody may have deleted it
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
            self.error = error if isinstance(error, UserError) else store_error(uri, error)
            if not told:
                warn_waiting(self.error, self._root)
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
        experiment = ensure_experiment(client, self._root, header["experiment"])
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
        print(f"warning: MLflow refuses some {kind}: {short_reason(refusal)}", file=sys.stderr)
        return 1

    def _deliver_one(self, client: mlflow.MlflowClient, run_id: str, event: Event) -> None:
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
            client.log_artifacts(run_id, str(self._spool.file(event)), event["to"])
        elif kind == "generator":
            log_model(client, self._root, run_id, event, self._spool.file(event), self._unsure)
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
class Waiting:
    """What waited on disk, by the names of runs."""

    delivered: Sequence[str]
    left: Sequence[str]
    elsewhere: Sequence[str]  # other stores, for which something waits


def deliver_waiting(root: Path, seconds: float) -> Waiting:
    """Deliver what waits of processes that have ended, and say how they ended.

    Args:
        root: the project's folder.
        seconds: about how long.
    """
    deadline = time.monotonic() + seconds
    store = hide_password(tracking_uri(root))
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
                away = delivery.error is not None and not is_answering(root)
            (left if spool.waiting else delivered).append(spool.header["name"])
        if not spool.waiting and spool.header["goes_on"]:
            kept.append(spool.folder)
        remove_if_done(spool)
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


def remove_if_done(spool: Spool) -> None:
    """Remove a spool that was delivered and to which nothing will be added."""
    if not spool.waiting and not spool.header["goes_on"]:
        spool.remove()


def log_params(client: mlflow.MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    """Log parameters of a run, as many a call as MLflow takes."""
    items = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(items), PARAMS_PER_CALL):
        client.log_batch(run_id, params=items[start : start + PARAMS_PER_CALL])


def warn_waiting(error: UserError, root: Path) -> None:
    """Warn that the store is away and that what is logged is kept on disk."""
    print(f"warning: {error}; what is logged waits in {root / SPOOLS}", file=sys.stderr)
