"""Stores, runs and generators for the tests of tracking."""

import importlib
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run as Entity
from mlflow.exceptions import MlflowException

from src.models import sampling
from src.models.export import export_generator
from src.tracking import address, delivery, failures, registry, runs, store
from src.tracking.registered_model import ModelPackage
from src.tracking.runs import Run, start_run
from tests.models.test_sampling import saved
from tests.servers import empty_store

CARD = {"model-card.md": "not for diagnosis"}


@pytest.fixture(autouse=True)
def _store(tmp_path: Path) -> None:
    """An empty store, which takes seconds to create."""
    shutil.copy(empty_store(), tmp_path)


def client(root: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def only_run(root: Path) -> Entity:
    """The one run of the store."""
    experiment = client(root).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    (run,) = client(root).search_runs([experiment.experiment_id])
    return run


def package(folder: Path, name: str = "chest-xray-gan-normal", **tags: str) -> ModelPackage:
    """A package of an untrained generator."""
    return ModelPackage(
        name=name,
        build=lambda out: export_generator(saved(folder / "g.pt"), CARD, out),
        loader=Path(sampling.__file__),
        requirements=("torch", "numpy", "pandas", "pillow"),
        tags=tags,
    )


def outboxes(root: Path) -> list[Path]:
    return [path for path in (root / ".tracking").iterdir() if path.is_dir()]


def steps(root: Path, run: Entity, name: str = "g") -> list[int]:
    return [metric.step for metric in client(root).get_metric_history(run.info.run_id, name)]


def models() -> Any:
    """The module by which models are logged, which is imported for seconds and with warnings."""
    with store.quiet_mlflow():
        return importlib.import_module("mlflow.pyfunc")


def log_some(run: Run, epochs: int) -> None:
    for epoch in range(1, epochs + 1):
        run.log_metrics({"g": float(epoch), "d1": 0.5}, epoch)
    for epoch in range(1, epochs + 1, 2):
        run.log_image("samples", np.full((8, 8), epoch, dtype=np.uint8), epoch)


def log_four(run: Run) -> None:
    log_some(run, 4)


def deliver_four(run: Run) -> None:
    log_some(run, 4)
    run.deliver(60)


def killed(root: Path, work: Callable[[Run], None], resume: str = "work") -> None:
    """Log in a process that is killed after ``work``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other threads are no matter here
        child = os.fork()
    if child == 0:
        with start_run("train", root, {"a": "1"}, {"dvc.experiment": "x"}, resume) as run:
            work(run)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


class Away:
    """A store that is away while ``now`` is true; the answers to ``lost`` calls get lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = False
        self.words = "connection refused"
        self.lost = 0
        monkeypatch.setattr(runs, "DELIVERY_INTERVAL", 0.0)
        monkeypatch.setattr(runs, "INTERVAL_AFTER_FAILURE", 0.0)
        for name in (
            *("create_run", "get_run", "log_batch", "log_artifacts", "search_experiments"),
            *("set_tag", "set_terminated", "update_run", "get_experiment_by_name"),
            *("set_model_version_tag", "set_registered_model_alias"),
        ):
            call = getattr(mlflow.MlflowClient, name)
            monkeypatch.setattr(mlflow.MlflowClient, name, self._answered(call))
        monkeypatch.setattr(models(), "log_model", self._answered(models().log_model))

    def _answered(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def answered(*args: Any, **options: Any) -> Any:
            if self.now:
                raise MlflowException(self.words)
            found = call(*args, **options)
            if self.lost:
                self.lost -= 1
                raise MlflowException("connection reset")
            return found

        return answered


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    return Away(monkeypatch)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project that has reached its store, which counts as one of another host."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for module in (address, delivery, failures, registry, runs, store):
        for name, value in (("tracking_uri", lambda root: uri), ("is_local", lambda uri: False)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    with start_run("first", tmp_path, {}, {}) as run:
        pass
    client(tmp_path).delete_run(str(run.run_id))
    return tmp_path
