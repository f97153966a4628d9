"""Generators within a stage: trained once, from their images alone, whatever interrupts them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run as Entity
from numpy.typing import NDArray

from pipeline import checkpoints, generators
from pipeline.generators import train_generator
from pipeline.stage import Stage
from src.config.settings import Settings, parse_settings
from src.models.io import LoadedGenerator
from src.tracking.runs import PARENT_TAG, Run, start_run
from tests.servers import empty_store
from tests.tracking.conftest import client


@pytest.fixture
def settings(tiny: dict[str, Any]) -> Settings:
    tiny["train"]["checkpoint_interval_seconds"] = 0.0
    tiny["compute"].update(device="cpu", threads=1)
    return parse_settings(tiny)


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8)


@pytest.fixture
def stage(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage whose store and checkpoints lie in a folder of their own."""
    shutil.copyfile(empty_store(), tmp_path / "mlflow.db")
    monkeypatch.setattr(checkpoints, "ROOT", tmp_path / ".checkpoints")
    monkeypatch.setattr(generators, "HOME", tmp_path)
    with start_run("utility_eval", tmp_path, {}, {}) as run:
        yield Stage("utility_eval", settings, run)


def finished_runs(root: Path) -> list[Entity]:
    """The runs of the generators; that of the stage goes on."""
    experiment = client(root).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    return client(root).search_runs([experiment.experiment_id], "status = 'FINISHED'")


def trained(stage: Stage, images: NDArray[np.uint8], **changes: Any) -> LoadedGenerator:
    training = stage.settings.train.normal.model_copy(update=changes)
    return train_generator(stage, "5 %, draw 1, NORMAL", "NORMAL", images, training)


def test_it_is_trained_once_in_a_run_below_that_of_the_stage(
    stage: Stage, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(stage, images)
    assert first.origin.images == 20
    assert not list((tmp_path / ".checkpoints").rglob("step_*"))
    (run,) = finished_runs(tmp_path)
    assert run.info.run_name == "utility_eval: 5 %, draw 1, NORMAL"
    assert run.data.tags[PARENT_TAG] == stage.run.run_id
    assert {"g", "d1", "d2"} == set(run.data.metrics)
    monkeypatch.delattr(generators, "run_training")
    again = trained(stage, images)
    assert again.sha256 == first.sha256
    assert len(finished_runs(tmp_path)) == 1


def test_other_images_or_settings_are_another_generator(
    stage: Stage, images: NDArray[np.uint8]
) -> None:
    found = {
        trained(stage, images).sha256,
        trained(stage, images, epochs=2).sha256,
        trained(stage, images, seed=9).sha256,
        trained(stage, images[::-1]).sha256,
    }
    assert len(found) == 4


def test_interrupted_it_goes_on_with_the_same_bytes_in_the_same_run(
    stage: Stage, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_metrics = Run.log_metrics

    def interrupt(run: Run, values: dict[str, float], step: int = 0) -> None:
        if step == 2:
            raise KeyboardInterrupt
        log_metrics(run, values, step)

    monkeypatch.setattr(Run, "log_metrics", interrupt)
    with pytest.raises(KeyboardInterrupt):
        trained(stage, images)
    monkeypatch.setattr(Run, "log_metrics", log_metrics)
    resumed = trained(stage, images)
    (run,) = finished_runs(tmp_path)
    assert run.data.tags["resumed.after"] == "2 of 2 batches of epoch 2"
    history = client(tmp_path).get_metric_history(run.info.run_id, "g")
    assert [metric.step for metric in history] == [1, 2, 3]
    shutil.rmtree(tmp_path / ".checkpoints")
    assert trained(stage, images).sha256 == resumed.sha256
    assert len(finished_runs(tmp_path)) == 2


def test_killed_before_the_generator_is_written_it_trains_no_batch_again(
    stage: Stage, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = generators.save_generator
    monkeypatch.setattr(generators, "save_generator", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained(stage, images)
    monkeypatch.setattr(generators, "save_generator", save)
    trained(stage, images)
    (run,) = finished_runs(tmp_path)
    assert run.data.tags["resumed.after"] == "all epochs"
