import base64
import io
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
from PIL import Image

from src import tracking
from src.errors import UserError
from src.models import portable
from src.models.export import export_generator
from src.models.portable import draw_images, draw_latents
from src.tracking import (
    CANDIDATE,
    CHAMPION,
    Package,
    download_generator,
    model_version,
    runs_link,
    set_alias,
    start_run,
)
from tests.conftest import ROOT
from tests.models.test_portable import saved

CARD = {"model-card.md": "not for diagnosis"}


def client(root: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def only_run(root: Path) -> Entity:
    experiment = client(root).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    (run,) = client(root).search_runs([experiment.experiment_id])
    return run


def test_everything_that_is_logged_arrives(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    many = {f"section.key{number}": str(number) for number in range(150)}
    with start_run("train", tmp_path, many, {"dvc.stage": "train_normal"}) as run:
        for epoch in range(1, 1201):
            run.log_metrics({"g": 1 / epoch, "d1": 0.5}, epoch)
        for step in (1, 2):
            run.log_image("samples", np.full((8, 8), 9, dtype=np.uint8), step)
        run.log_file(tmp_path / "note.txt", "notes")
        run.log_table("fid/describe.json", pd.DataFrame({"pair": ["RNxRP"], "mean": [1.5]}))
        run.set_tag("data.sha256", "abc")
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


def package(folder: Path, name: str = "chest-xray-gan-normal", **tags: str) -> Package:
    """A generator that has not learnt, to be logged."""
    return Package(
        name=name,
        build=lambda out: export_generator(saved(folder / "g.pt"), folder / "g.pt", CARD, out),
        code=Path(portable.__file__),
        requires=("torch", "numpy", "pandas", "pillow"),
        tags=tags,
    )


def test_a_generator_is_registered_with_all_that_it_needs_elsewhere(tmp_path: Path) -> None:
    name = "chest-xray-gan-normal"
    for number in ("1", "2"):
        with start_run("report", tmp_path, {}, {}) as run:
            run.log_generator(package(tmp_path, frechet=number))
    found = model_version(tmp_path, name, CANDIDATE)
    assert found is not None
    assert found.number == 2
    assert found.tags["frechet"] == "2"
    assert model_version(tmp_path, name, CHAMPION) is None
    set_alias(tmp_path, name, CHAMPION, found)
    assert model_version(tmp_path, name, CHAMPION) == found
    first = client(tmp_path).get_model_version(name, "1")
    assert "candidate" not in first.aliases

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@candidate")
    drawn = loaded.predict(pd.DataFrame({"seed": [1] * 20, "index": range(20)}))
    network = saved(tmp_path / "g.pt").network
    expected = draw_images(network, draw_latents([1] * 20, range(20), 12))
    for image, text in zip(expected, drawn["png"], strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), image)
    with pytest.raises(MlflowException, match="index"):
        loaded.predict(pd.DataFrame({"seed": [1]}))
    place = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/2"))
    needs = (place / "requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}" in needs
    assert (place / "input_example.json").exists()
    assert (place / "data" / "generator" / "model-card.md").read_text() == "not for diagnosis"
    assert not list(place.rglob("*.pkl"))


def test_a_registered_generator_is_fetched_as_it_was_saved(tmp_path: Path) -> None:
    with start_run("report", tmp_path, {}, {}) as run:
        run.log_generator(package(tmp_path))
    address = "models:/chest-xray-gan-normal@candidate"
    (tmp_path / "to").mkdir()
    file = download_generator(tmp_path, address, tmp_path / "to")
    assert file.read_bytes() == (tmp_path / "g.pt").read_bytes()
    with pytest.raises(UserError, match="nobody"):
        download_generator(tmp_path, "models:/nobody@candidate", tmp_path / "to")


def test_an_error_names_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/tracks")
    with pytest.raises(UserError, match="cannot be used") as caught:
        tracking.check_store(tmp_path)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:9/tracks" in str(caught.value)


def test_the_link_to_runs_names_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = runs_link(tmp_path, {"params.sha256": "abc"})
    assert link.startswith("http://127.0.0.1:5000/#/experiments/1/runs?")
    assert "&searchFilter=tags." in link
    assert link.endswith("%27abc%27")
    monkeypatch.setattr(tracking, "_experiment", lambda client, root: "7")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org/mlflow/")
    link = runs_link(tmp_path, {})
    assert link.startswith("https://example.org/mlflow/#/experiments/7/")
    assert "secret" not in link


def test_a_damaged_store_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    for use in (
        lambda: start_run("a", tmp_path, {}, {}).__enter__(),
        lambda: tracking.check_store(tmp_path),
        lambda: model_version(tmp_path, "a", CHAMPION),
        lambda: runs_link(tmp_path, {}),
    ):
        with pytest.raises(UserError, match="not a database"):
            use()


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


def test_a_run_that_was_cut_off_is_taken_up_and_nothing_is_logged_twice(tmp_path: Path) -> None:
    def cut_off() -> None:
        with start_run("train", tmp_path, {"a": "1"}, {"dvc.experiment": "x"}) as run:
            log_some(run, 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    first = only_run(tmp_path).info.run_id
    with start_run("train", tmp_path, {"a": "1"}, {"dvc.experiment": "x"}, first) as second:
        assert only_run(tmp_path).info.status == "RUNNING"
        log_some(second, 6)
    found = only_run(tmp_path)
    assert found.info.run_id == first
    assert found.info.status == "FINISHED"
    for name in ("g", "d1"):
        history = client(tmp_path).get_metric_history(found.info.run_id, name)
        assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6]
    files = [f.path for f in client(tmp_path).list_artifacts(found.info.run_id, "images")]
    assert len([file for file in files if file.endswith(".png")]) == 3


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
