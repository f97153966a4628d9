import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND
from mlflow.utils.request_utils import augmented_raise_for_status

from src.common.errors import UserError
from src.tracking import delivery, runs
from src.tracking.delivery import SyncResult, sync
from src.tracking.outbox import count_waiting
from src.tracking.registered_model import CANDIDATE
from src.tracking.registry import model_version
from src.tracking.runs import Run, start_run
from tests.servers import empty_store, mlflow_server, relay
from tests.tracking.conftest import (
    Away,
    client,
    killed,
    log_four,
    log_some,
    models,
    only_run,
    outboxes,
    package,
    steps,
)


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


def test_a_store_that_goes_away_does_not_stop_the_work(
    tmp_path: Path, away: Away, capsys: pytest.CaptureFixture[str]
) -> None:
    with start_run("a", tmp_path, {}, {}) as run:
        away.now = True
        run.log_metrics({"g": 1.0}, 1)
        run.log_metrics({"g": 2.0}, 2)
        away.now = False
        run.log_metrics({"g": 3.0}, 3)
    told = capsys.readouterr().err
    assert told.count("cannot be used (connection refused)") == 1
    assert f"what is logged waits in {tmp_path / '.tracking'}" in told
    assert "MLflow can be reached again" in told
    history = client(tmp_path).get_metric_history(only_run(tmp_path).info.run_id, "g")
    assert [metric.value for metric in history] == [1.0, 2.0, 3.0]
    assert outboxes(tmp_path) == []


def log_one_of_each(run: Run, folder: Path) -> None:
    (folder / "note.txt").write_text("hello")
    run.log_metrics({"g": 1.0}, 1)
    run.log_image("samples", np.zeros((4, 4), dtype=np.uint8), 1)
    run.log_file(folder / "note.txt")
    run.log_table("scores.json", pd.DataFrame({"pair": ["RNxRP"], "mean": [0.1]}))
    run.log_generator(package(folder, frechet="1"))
    run.set_tag("data.sha256", "abc")
    run.log_metrics({"g": 2.0}, 2)


def assert_one_of_each(root: Path) -> None:
    found = only_run(root)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"a": "1"}
    assert found.data.tags["data.sha256"] == "abc"
    assert found.data.tags["mlflow.loggedImages"] == "True"
    assert steps(root, found) == [1, 2]
    names = [file.path for file in client(root).list_artifacts(found.info.run_id)]
    assert {"images", "note.txt", "scores.json"} <= set(names)
    images = [f.path for f in client(root).list_artifacts(found.info.run_id, "images")]
    assert len([name for name in images if name.endswith(".png")]) == 1
    table = client(root).load_table(
        found.info.experiment_id,
        artifact_file="scores.json",
        run_ids=[found.info.run_id],
    )
    assert table.to_dict("list") == {"pair": ["RNxRP"], "mean": [0.1]}
    (version,) = client(root).search_model_versions("name = 'chest-xray-gan-normal'")
    assert version.tags["frechet"] == "1"
    assert model_version(root, "chest-xray-gan-normal", CANDIDATE) is not None
    assert outboxes(root) == []


def test_what_was_logged_while_the_store_was_away_is_delivered_later(
    server: Path, away: Away, capsys: pytest.CaptureFixture[str]
) -> None:
    away.now = True
    with start_run("a", server, {"a": "1"}, {}) as run:
        log_one_of_each(run, server)
        assert run.run_id is None
    told = capsys.readouterr().err
    assert told.count("cannot be used") == 1
    assert "entries of the MLflow run 'a' wait in" in told
    assert count_waiting(server) == 1
    with pytest.raises(UserError, match="cannot be used"):
        sync(server)
    away.now = False
    (server / "note.txt").write_text("another since")
    assert sync(server).delivered == ["a"]
    assert_one_of_each(server)
    note = mlflow.artifacts.download_artifacts(
        run_id=only_run(server).info.run_id,
        artifact_path="note.txt",
        tracking_uri=f"sqlite:///{server / 'mlflow.db'}",
    )
    assert Path(note).read_text() == "hello"
    assert sync(server) == SyncResult([], [], [])
    assert count_waiting(server) == 0


def test_a_store_that_is_away_is_not_waited_for_by_everything_that_waits(
    server: Path, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    away.now = True
    for name in ("a", "b", "c"):
        with start_run(name, server, {}, {}):
            pass
    monkeypatch.setattr(delivery, "check_store", lambda root: None)
    tried = []
    deliver = delivery.Delivery.deliver
    monkeypatch.setattr(
        delivery.Delivery, "deliver", lambda self, most: (tried.append(1), deliver(self, most))[1]
    )
    assert sync(server).undelivered == ["a", "b", "c"]
    assert len(tried) == 1
    away.now = False
    assert sync(server).delivered == ["a", "b", "c"]


def test_the_next_run_delivers_what_waits(server: Path, away: Away) -> None:
    away.now = True
    with start_run("a", server, {}, {}) as run:
        run.log_metrics({"g": 1.0}, 1)
    away.now = False
    with start_run("b", server, {}, {}):
        pass
    runs = client(server).search_runs(["1"])
    assert {run.info.run_name: run.info.status for run in runs} == {
        "a": "FINISHED",
        "b": "FINISHED",
    }
    assert outboxes(server) == []


@pytest.mark.parametrize("good", range(15))
def test_a_call_whose_answer_is_lost_is_not_made_a_second_time(
    tmp_path: Path, away: Away, good: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The answer to each call in turn is lost, after those before it came.
    calls = 0

    def count(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            nonlocal calls
            away.lost = int(calls == good)
            calls += 1
            return call(*args, **options)

        return counted

    with start_run("a", tmp_path, {"a": "1"}, {}) as run:
        for name in (
            *("log_batch", "log_artifacts", "set_tag", "set_terminated"),
            *("set_model_version_tag", "set_registered_model_alias"),
        ):
            monkeypatch.setattr(
                mlflow.MlflowClient, name, count(getattr(mlflow.MlflowClient, name))
            )
        monkeypatch.setattr(mlflow.pyfunc, "log_model", count(mlflow.pyfunc.log_model))
        log_one_of_each(run, tmp_path)
        run.deliver(60)
    assert calls > good  # an answer was lost
    assert sync(tmp_path).undelivered == []  # that to the last call is asked for again
    assert_one_of_each(tmp_path)


def test_a_run_whose_making_was_not_answered_is_not_made_twice(
    server: Path, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    away.now = True
    with start_run("a", server, {"a": "1"}, {}) as run:
        log_one_of_each(run, server)
    away.now = False
    create = mlflow.MlflowClient.create_run

    def unanswered(self: Any, *args: Any, **options: Any) -> Any:
        away.lost = 1
        return create(self, *args, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", unanswered)
    assert sync(server).undelivered == ["a"]
    monkeypatch.setattr(mlflow.MlflowClient, "create_run", create)
    assert sync(server).delivered == ["a"]
    assert_one_of_each(server)


def test_an_entry_that_mlflow_refuses_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start_run("a", tmp_path, {}, {}) as run:
        run.log_metrics({"wrong: !": 1.0}, 1)
        run.set_tag("good", "1")
    assert "warning: MLflow refuses some metrics: Invalid value" in capsys.readouterr().err
    assert only_run(tmp_path).data.tags["good"] == "1"


def test_of_numbers_that_are_refused_together_only_the_bad_one_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start_run("a", tmp_path, {}, {}) as run:
        for step in range(1, 5):
            run.log_metrics({"wrong: !" if step == 3 else "g": 1.0}, step)
    assert steps(tmp_path, only_run(tmp_path)) == [1, 2, 4]
    assert capsys.readouterr().err.count("MLflow refuses some metrics") == 1


def answer(status: int, text: str) -> Callable[..., None]:
    """An upload to a server that answers so."""
    response = requests.Response()
    response.status_code = status
    response.url = "http://host/api/2.0/mlflow-artifacts/artifacts/1/x"
    response._content = text.encode()

    def upload(*_: Any, **__: Any) -> None:
        augmented_raise_for_status(response)

    return upload


def failing(error: Exception) -> Callable[..., None]:
    def upload(*_: Any, **__: Any) -> None:
        raise error

    return upload


class DriversError(Exception):
    """As botocore's, which no package of the project knows."""


TOO_LARGE = answer(413, "<html><title>413 Request Entity Too Large</title><hr>nginx</html>")
NO_FOLDER = failing(FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/srv"))


@pytest.mark.parametrize(
    ("upload", "told"),
    [
        (TOO_LARGE, "refuses samples, .*the answer is a page, '413 Request .*client_max_body"),
        (
            answer(403, "blocked"),
            "refuses samples, .*403 Client Error: None Response text: blocked",
        ),
        (NO_FOLDER, r"keeps artifacts at \S+, which .*'/proc/srv'.*`mlflow server --serve-art"),
        (failing(PermissionError(errno.EACCES, "Permission denied", "/srv")), "write .*'/srv'"),
        (failing(ModuleNotFoundError("No module named 'boto3'")), "write .*'boto3'.*left out"),
    ],
)
def test_files_that_a_server_does_not_take_are_left_out_with_one_warning(
    server: Path,
    upload: Callable[..., None],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", upload)
    monkeypatch.setattr(models(), "log_model", upload)
    with start_run("a", server, {"a": "1"}, {}) as run:
        log_four(run)
        run.log_generator(package(server))
        run.log_metrics({"g": 5.0}, 5)
    found = only_run(server)
    assert found.info.status == "FINISHED"
    assert steps(server, found) == [1, 2, 3, 4, 5]
    assert outboxes(server) == []
    warnings = capsys.readouterr().err
    assert re.search(f"^warning: .*{told}", warnings)
    assert warnings.count("warning:") == 1
    assert "<" not in warnings


def test_a_server_without_models_of_mlflow_3_registers_none_and_all_else_arrives(
    server: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "API request to endpoint /api/2.0/mlflow/logged-models failed with error code 404 != 200"
    error = MlflowException(f"{text}. Response body: ''", error_code=ENDPOINT_NOT_FOUND)
    monkeypatch.setattr(models(), "log_model", failing(error))
    with start_run("a", server, {}, {}) as run:
        run.log_generator(package(server))
        run.log_metrics({"g": 1.0}, 1)
    assert only_run(server).info.status == "FINISHED"
    assert steps(server, only_run(server)) == [1]
    told = capsys.readouterr().err
    assert told.count("warning: this server is older than MLflow 3, so no model is registered") == 1
    assert sync(server) == SyncResult([], [], [])


@pytest.mark.parametrize(
    "upload",
    [
        answer(401, "who are you?"),
        answer(429, "later"),
        answer(503, "later"),
        failing(MlflowException("API request to http://x failed with exception Connection reset")),
        failing(OSError(errno.ENOSPC, "No space left on device", "/mnt/artifacts/x")),
        failing(DriversError("Unable to locate credentials")),
    ],
)
def test_files_that_a_server_may_take_later_wait(
    server: Path, upload: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as now:
        now.setattr(mlflow.MlflowClient, "log_artifacts", upload)
        with start_run("a", server, {"a": "1"}, {}) as run:
            log_one_of_each(run, server)
        assert sync(server).undelivered == ["a"]
    assert sync(server).delivered == ["a"]
    assert_one_of_each(server)


def test_a_folder_of_this_machine_that_cannot_be_written_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "mlartifacts"))
    with monkeypatch.context() as now:
        now.setattr(mlflow.MlflowClient, "log_artifacts", failing(error))
        with start_run("a", tmp_path, {"a": "1"}, {}) as run:
            log_one_of_each(run, tmp_path)
    assert f"{tmp_path / 'mlartifacts'} and its folder must exist" in capsys.readouterr().err
    assert sync(tmp_path).delivered == ["a"]
    assert_one_of_each(tmp_path)


def test_a_defect_of_the_project_is_no_fault_of_the_store(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", failing(ValueError("a defect")))
    with pytest.raises(ValueError, match="a defect"), start_run("a", server, {}, {}) as run:
        log_four(run)


def write_report(run: Run, folder: Path) -> None:
    log_one_of_each(run, folder)
    run.log_image("samples", np.ones((4, 4), dtype=np.uint8), 2)


@pytest.mark.long
@pytest.mark.parametrize(
    ("key", "status", "page", "told"),
    [
        ("POST /api/2.0/mlflow/logged-models", 404, "<title>404 Not Found</title>", "older than"),
        ("POST /api/2.0/mlflow/logged-models", 404, "", "older than MLflow 3"),
        ("PUT ", 413, "<html><title>413 Request Entity Too Large</title></html>", "'413 Request"),
    ],
)
def test_of_what_a_real_server_refuses_all_else_arrives(
    tmp_path: Path,
    key: str,
    status: int,
    page: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "server").mkdir()
    shutil.copy(empty_store(), tmp_path / "server")
    store = f"sqlite:///{tmp_path}/server/mlflow.db"
    with mlflow_server(store, tmp_path / "server") as behind, relay(behind) as between:
        between.answers = {key: (status, page)}
        monkeypatch.setenv("MLFLOW_TRACKING_URI", between.address)
        with start_run("a", tmp_path, {"a": "1"}, {}) as run:
            write_report(run, tmp_path)
        assert sync(tmp_path) == SyncResult([], [], [])
    warnings = capsys.readouterr().err
    assert told in warnings
    assert warnings.count("warning:") == 1
    assert "<" not in warnings
    found = only_run(tmp_path / "server")
    assert found.info.status == "FINISHED"
    assert steps(tmp_path / "server", found) == [1, 2]


@pytest.mark.long
def test_files_that_a_real_server_would_have_this_machine_write_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server").mkdir()
    shutil.copy(empty_store(), tmp_path / "server")
    store = f"sqlite:///{tmp_path}/server/mlflow.db"
    options = ("--no-serve-artifacts", "--default-artifact-root", "/proc/srv/artifacts")
    with mlflow_server(store, tmp_path / "server", *options) as there:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", there.address)
        with start_run("a", tmp_path, {"a": "1"}, {}) as run:
            write_report(run, tmp_path)
        assert sync(tmp_path) == SyncResult([], [], [])
    warnings = capsys.readouterr().err
    assert "keeps artifacts at /proc/srv/artifacts/" in warnings
    assert warnings.count("warning:") == 1
    found = only_run(tmp_path / "server")
    assert found.info.status == "FINISHED"
    assert found.data.tags["data.sha256"] == "abc"
    assert steps(tmp_path / "server", found) == [1, 2]


def test_a_run_that_somebody_deletes_while_it_works_is_made_anew_with_all_of_it(
    tmp_path: Path,
) -> None:
    with start_run("a", tmp_path, {"p": "1"}, {}) as run:
        run.log_metrics({"g": 1.0}, 1)
        run.deliver(60)
        client(tmp_path).delete_run(run.run_id)
        run.log_metrics({"g": 2.0}, 2)
        run.deliver(60)
        run.log_metrics({"g": 3.0}, 3)
    found = only_run(tmp_path)
    assert found.data.params == {"p": "1"}
    assert steps(tmp_path, found) == [1, 2, 3]
    assert outboxes(tmp_path) == []


def test_one_that_cannot_be_delivered_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    killed(tmp_path, log_four)
    header = tmp_path / ".tracking" / "work" / "run.json"
    deleted = client(tmp_path).create_experiment("deleted")
    client(tmp_path).delete_experiment(deleted)
    changed = json.loads(header.read_text()) | {"experiment": "deleted", "run_id": None}
    header.write_text(json.dumps(changed))
    killed(tmp_path, log_four, "other")
    waiting = sync(tmp_path)
    assert len(waiting.delivered) == 1
    assert len(waiting.undelivered) == 1


def test_what_waits_names_no_password(
    tmp_path: Path, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/tracks")
    monkeypatch.setattr(runs, "_reach_store", lambda root: UserError("away"))
    away.now = True
    with start_run("a", tmp_path, {}, {}) as run:
        run.log_metrics({"g": 1.0}, 1)
    for file in (tmp_path / ".tracking").rglob("*"):
        assert file.is_dir() or "secret" not in file.read_text()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    away.now = False
    assert sync(tmp_path).other_stores == ["http://***@127.0.0.1:9/tracks"]


def test_what_a_killed_process_logged_is_delivered_and_its_end_is_told(tmp_path: Path) -> None:
    killed(tmp_path, log_four)
    assert only_run(tmp_path).info.status == "RUNNING"
    assert sync(tmp_path).delivered == ["train"]
    found = only_run(tmp_path)
    assert found.info.status == "KILLED"
    assert steps(tmp_path, found) == [1, 2, 3, 4]
    with start_run("train", tmp_path, {"a": "1"}, {}, "work") as run:
        log_some(run, 5)
    found = only_run(tmp_path)
    assert found.info.status == "FINISHED"
    assert steps(tmp_path, found) == [1, 2, 3, 4, 5]
