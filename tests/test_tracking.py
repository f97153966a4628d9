import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.entities import Run as Entity
from mlflow.exceptions import MlflowException

from src import tracking
from src.errors import UserError
from src.models.layers import initialize
from src.models.networks import Generator
from src.settings.tree import Settings
from src.tracking import start_run
from tests.conftest import ROOT


def client(root: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def only_run(root: Path) -> Entity:
    experiment = client(root).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    (run,) = client(root).search_runs([experiment.experiment_id])
    return run


def test_everything_that_is_logged_arrives(tmp_path: Path, tiny_settings: Settings) -> None:
    (tmp_path / "note.txt").write_text("hello")
    network = initialize(
        Generator(tiny_settings.train.normal.generator, 16),
        "xavier",
        torch.Generator().manual_seed(1),
    ).eval()
    many = {f"section.key{number}": str(number) for number in range(150)}
    with start_run("train", tmp_path, many, {"dvc.stage": "train_normal"}) as run:
        for epoch in range(1, 1201):
            run.log_metrics({"g": 1 / epoch, "d1": 0.5}, epoch)
        for step in (1, 2):
            run.log_image("samples", np.full((8, 8), 9, dtype=np.uint8), step)
        run.log_file(tmp_path / "note.txt", "notes")
        run.log_table("fid/describe.json", pd.DataFrame({"pair": ["RNxRP"], "mean": [1.5]}))
        run.set_tag("data.sha256", "abc")
        run.log_generator("generator", network, 8)
    found = only_run(tmp_path)
    assert found.info.status == "FINISHED"
    assert len(found.data.params) == 150
    assert found.data.tags["dvc.stage"] == "train_normal"
    assert found.data.tags["data.sha256"] == "abc"
    history = client(tmp_path).get_metric_history(found.info.run_id, "g")
    assert [metric.step for metric in history] == list(range(1, 1201))
    names = [file.path for file in client(tmp_path).list_artifacts(found.info.run_id)]
    assert {"images", "notes", "fid"} <= set(names)
    assert len(client(tmp_path).list_artifacts(found.info.run_id, "images")) >= 4
    experiment = client(tmp_path).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    (model,) = client(tmp_path).search_logged_models([experiment.experiment_id])
    loaded = mlflow.pyfunc.load_model(model.model_uri)
    for count in (1, 5):
        noise = np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(noise)).numpy()
        np.testing.assert_allclose(loaded.predict(noise), expected, atol=1e-5)


@pytest.mark.parametrize("normalization", ["batch", "spectral"])
def test_a_generator_of_other_layers_is_logged_as_well(
    tmp_path: Path, tiny_settings: Settings, normalization: str
) -> None:
    changes = {"normalization": normalization, "upsampling": "nearest"}
    settings = tiny_settings.train.normal.generator.model_copy(update=changes)
    network = initialize(Generator(settings, 16), "dcgan", torch.Generator().manual_seed(1)).eval()
    with start_run("train", tmp_path, {}, {}) as run:
        run.log_generator("generator", network, 8)
    (model,) = client(tmp_path).search_logged_models([only_run(tmp_path).info.experiment_id])
    noise = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(noise)).numpy()
    found = mlflow.pyfunc.load_model(model.model_uri).predict(noise)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_artifacts_have_an_absolute_place(tmp_path: Path) -> None:
    root = tmp_path / "a folder with spaces and é"
    root.mkdir()
    (root / "note.txt").write_text("hello")
    with start_run("a", root, {}, {}) as run:
        run.log_file(root / "note.txt")
    assert only_run(root).info.artifact_uri.startswith("file:///")
    assert list((root / "mlartifacts").rglob("note.txt"))


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_that_ends_badly_says_so(
    tmp_path: Path, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), start_run("a", tmp_path, {}, {}):
        raise error
    assert only_run(tmp_path).info.status == status


def test_metrics_are_delivered_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    log_batch = mlflow.MlflowClient.log_batch

    def spy(self: mlflow.MlflowClient, *args: object, **options: object) -> None:
        calls.append(options)
        log_batch(self, *args, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", spy)
    with start_run("a", tmp_path, {}, {}) as run:
        for step in range(900):
            run.log_metrics({"g": 1.0, "d1": 2.0}, step)
    assert len(calls) == 2  # 1800 numbers, 1000 a call


def test_a_server_that_is_not_there_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(UserError, match=r"http://127\.0\.0\.1:9 cannot be used"),
        start_run("a", tmp_path, {}, {}),
    ):
        pytest.fail("the work has started")


def test_a_store_that_goes_away_does_not_stop_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = True
    log_batch = mlflow.MlflowClient.log_batch

    def failing(self: mlflow.MlflowClient, *args: object, **options: object) -> None:
        if away:
            raise MlflowException("connection refused")
        log_batch(self, *args, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", failing)
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_DELIVERIES", 0.0)
    with start_run("a", tmp_path, {}, {}) as run:
        run.log_metrics({"g": 1.0}, 1)
        run.log_metrics({"g": 2.0}, 2)
        away = False
    assert "warning: MLflow cannot be reached: connection refused" in capsys.readouterr().err
    history = client(tmp_path).get_metric_history(only_run(tmp_path).info.run_id, "g")
    assert [metric.value for metric in history] == [1.0, 2.0]


def test_what_could_not_be_delivered_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(self: mlflow.MlflowClient, *args: object, **options: object) -> None:
        raise MlflowException("connection refused")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", failing)
    with start_run("a", tmp_path, {}, {}) as run:
        run.log_metrics({"g": 1.0}, 1)
        run.log_image("samples", np.zeros((4, 4), dtype=np.uint8), 1)
    message = capsys.readouterr().err
    assert "not delivered to MLflow: image samples at step 1, 1 metrics" in message


def test_an_exported_run_id_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_run("parent", tmp_path, {}, {}) as parent:
        monkeypatch.setenv("MLFLOW_RUN_ID", parent.run_id)
        with start_run("child", tmp_path, {}, {}) as child:
            assert child.run_id != parent.run_id


def test_two_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from src.tracking import start_run\n"
        "with start_run('a', pathlib.Path(sys.argv[1]), {}, {}) as run: run.log_metrics({'g': 1})"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
        for _ in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    experiment = client(tmp_path).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    assert len(client(tmp_path).search_runs([experiment.experiment_id])) == 2


def log_some(run: tracking.Run, epochs: int) -> None:
    for epoch in range(1, epochs + 1):
        run.log_metrics({"g": float(epoch), "d1": 0.5}, epoch)
    for epoch in range(1, epochs + 1, 2):
        run.log_image("samples", np.full((8, 8), epoch, dtype=np.uint8), epoch)


def test_a_run_that_was_cut_off_is_taken_up_and_nothing_is_logged_twice(
    tmp_path: Path, tiny_settings: Settings
) -> None:
    network = initialize(
        Generator(tiny_settings.train.normal.generator, 16),
        "xavier",
        torch.Generator().manual_seed(1),
    ).eval()

    def cut_off() -> None:
        with start_run("train", tmp_path, {"a": "1"}, {"dvc.experiment": "x"}) as run:
            log_some(run, 4)
            run.log_generator("generator", network, 8)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    first = only_run(tmp_path).info.run_id
    with start_run("train", tmp_path, {"a": "1"}, {"dvc.experiment": "x"}, first) as second:
        assert only_run(tmp_path).info.status == "RUNNING"
        log_some(second, 6)
        second.log_generator("generator", network, 8)
    found = only_run(tmp_path)
    assert found.info.run_id == first
    assert found.info.status == "FINISHED"
    for name in ("g", "d1"):
        history = client(tmp_path).get_metric_history(found.info.run_id, name)
        assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6]
    files = [f.path for f in client(tmp_path).list_artifacts(found.info.run_id, "images")]
    assert len([file for file in files if file.endswith(".png")]) == 3
    (model,) = client(tmp_path).search_logged_models([found.info.experiment_id])
    assert model.name == "generator"


def test_a_run_of_other_parameters_is_not_taken_up_and_its_end_is_told(tmp_path: Path) -> None:
    with start_run("a", tmp_path, {"epochs": "1"}, {}) as run:
        cut_off = run.run_id
    client(tmp_path).update_run(cut_off, status="RUNNING")  # as one that was killed leaves it
    with start_run("a", tmp_path, {"epochs": "2"}, {}, cut_off) as run:
        assert run.run_id != cut_off
    assert client(tmp_path).get_run(cut_off).info.status == "KILLED"


def test_a_run_that_the_store_does_not_have_is_made_anew(tmp_path: Path) -> None:
    with start_run("a", tmp_path, {}, {}, "0123456789abcdef0123456789abcdef") as run:
        pass
    assert only_run(tmp_path).info.run_id == run.run_id
