import base64
import importlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.entities import Run as Entity
from mlflow.exceptions import MlflowException
from PIL import Image

from src.common.errors import UserError
from src.models import portable
from src.models.export import export_generator
from src.models.portable import draw_images, draw_latents
from src.tracking import delivery, registry
from src.tracking import outbox as spool
from src.tracking import runs as tracking
from src.tracking import store as store_module
from src.tracking.delivery import count_waiting, sync
from src.tracking.registry import (
    CANDIDATE,
    CHAMPION,
    Package,
    download_generator,
    model_version,
    set_alias,
)
from src.tracking.runs import forget_work, start_run, start_shared_run
from src.tracking.store import check_store, runs_link, tracking_uri
from tests.conftest import ROOT
from tests.models.test_portable import saved
from tests.servers import empty_store

CARD = {"model-card.md": "not for diagnosis"}


@pytest.fixture(autouse=True)
def _store(tmp_path: Path) -> None:
    shutil.copy(empty_store(), tmp_path)


def client(root: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def only_run(root: Path) -> Entity:
    experiment = client(root).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    (run,) = client(root).search_runs([experiment.experiment_id])
    return run


MAKES_A_STORE = """
import pathlib, sys
from src.tracking import start_run
root = pathlib.Path(sys.argv[1])
print("begins", flush=True)
with start_run("train_normal", root, {}, {}):
    pass
"""


@pytest.mark.long
def test_a_store_whose_making_is_killed_is_made_by_the_next(tmp_path: Path) -> None:
    for hundredths in (10, 30, 60):
        root = tmp_path / str(hundredths)
        (root / "tmp").mkdir(parents=True)
        making = subprocess.Popen(
            [sys.executable, "-c", MAKES_A_STORE, str(root)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(root / "tmp")},
        )
        assert making.stdout is not None
        making.stdout.readline()
        while making.poll() is None and not any(root.glob("tmp/mlflow-*")):
            time.sleep(0.001)
        time.sleep(hundredths / 100)
        making.kill()
        making.communicate()
        assert (root / "mlflow.db").exists() or any(root.glob("tmp/mlflow-*"))
        with start_run("train_normal", root, {}, {}):
            pass
        assert (root / "mlflow.db").exists()
        assert not any(root.glob(".mlflow.db-new-*"))


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


def test_images_and_tables_are_as_mlflow_itself_logs_them(tmp_path: Path) -> None:
    image = np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
    table = pd.DataFrame({"pair": ["RNxRP", "é"], "mean": [1 / 3, 2.0]}, index=[4, 5])
    with start_run("ours", tmp_path, {}, {}) as run:
        run.log_image("samples", image, 3)
        run.log_table("fid/describe.json", table)
        run.log_table("scores.json", table)
    ours = only_run(tmp_path)
    theirs = client(tmp_path).create_run(ours.info.experiment_id)
    client(tmp_path).log_image(theirs.info.run_id, Image.fromarray(image), key="samples", step=3)
    for name in ("fid/describe.json", "scores.json"):
        client(tmp_path).log_table(theirs.info.run_id, table, name)
    found = []
    for run_id in (ours.info.run_id, theirs.info.run_id):
        place = Path(tempfile.mkdtemp(dir=tmp_path))
        client(tmp_path).download_artifacts(run_id, "", str(place))
        files = [file for file in place.rglob("*") if file.is_file()]
        # Their names have the time and a random part.
        contents = {
            re.sub(r"timestamp\+[0-9]+\+[0-9a-f-]{36}", "", str(file.relative_to(place))): (
                file.read_bytes() if file.suffix == ".json" else np.asarray(Image.open(file))
            )
            for file in files
        }
        tags = client(tmp_path).get_run(run_id).data.tags
        found.append(
            (contents, {key: tags[key] for key in tags if key.startswith("mlflow.logged")})
        )
    (our_files, our_tags), (their_files, their_tags) = found
    assert our_tags == their_tags
    assert len(our_files) == 4
    assert our_files.keys() == their_files.keys()
    for name, content in our_files.items():
        assert np.array_equal(content, their_files[name]), name


def package(folder: Path, name: str = "chest-xray-gan-normal", **tags: str) -> Package:
    """A generator that has not learnt, to be logged."""
    return Package(
        name=name,
        build=lambda out: export_generator(saved(folder / "g.pt"), CARD, out),
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


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", "sqlite:////home/project/mlflow.db"),
        ("sqlite:///runs/a.db", "sqlite:////home/project/runs/a.db"),
        ("sqlite:////else/a.db", "sqlite:////else/a.db"),
        ("file:runs", "file:/home/project/runs"),
        ("file:///else", "file:///else"),
        ("runs", "/home/project/runs"),
        ("/else", "/else"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
    ],
)
def test_a_relative_address_is_relative_to_the_project(
    given: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert tracking_uri(Path("/home/project")) == kept


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("sqlite:mlflow.db", "is no address of a store"),
        ("mysql+pymysql://127.0.0.1/x", "install the package that it names"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, given: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    for use in (check_store, sync):
        with pytest.raises(UserError, match=told):
            use(tmp_path)


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
        check_store(tmp_path)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:9/tracks" in str(caught.value)


def test_the_link_to_runs_names_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = runs_link(tmp_path, {"params.sha256": "abc"})
    assert link.startswith("http://127.0.0.1:5000/#/experiments/1/runs?")
    assert "&searchFilter=tags." in link
    assert link.endswith("%27abc%27")
    monkeypatch.setattr(store_module, "ensure_experiment", lambda client, root, name: "7")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org/mlflow/")
    link = runs_link(tmp_path, {})
    assert link.startswith("https://example.org/mlflow/#/experiments/7/")
    assert "secret" not in link


def test_a_damaged_store_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    for use in (
        lambda: start_run("a", tmp_path, {}, {}).__enter__(),
        lambda: check_store(tmp_path),
        lambda: model_version(tmp_path, "a", CHAMPION),
        lambda: runs_link(tmp_path, {}),
    ):
        with pytest.raises(UserError, match="not a database"):
            use()


def test_artifacts_have_an_absolute_place(tmp_path: Path) -> None:
    root = tmp_path / "a folder with spaces and é"
    root.mkdir()
    (tmp_path / "mlflow.db").rename(root / "mlflow.db")
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
        pytest.raises(
            UserError,
            match=r"http://127\.0\.0\.1:9 cannot be used \(Failed to establish a new connection: "
            r"\[Errno \d+\] Connection refused\); start its server",
        ),
        start_run("a", tmp_path, {}, {}),
    ):
        pytest.fail("the work has started")


@pytest.mark.parametrize("start", [start_run, start_shared_run])
def test_a_server_that_hangs_is_waited_for_with_a_line_before_it_is_refused(
    start: Callable[..., AbstractContextManager[tracking.Run]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(store_module, "SECONDS_TO_BEGIN", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("//", "//me:secret@"))
        with (
            pytest.raises(
                UserError, match=r"cannot be used \(Read timed out. \(read timeout=2\)\); start"
            ),
            start("a", tmp_path, {}, {}),
        ):
            pytest.fail("the work has started")
    told = capsys.readouterr().err
    address = address.replace("//", "//***@")
    assert told == f"the MLflow store {address} takes its time to answer: waiting\n"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_a_time_to_wait_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")
    wanted = "'soon' for MLFLOW_HTTP_REQUEST_TIMEOUT.*a whole number of seconds"
    with pytest.raises(UserError, match=wanted), start_run("a", tmp_path, {}, {}):
        pytest.fail("the work has started")


class Away:
    """A store that is away while ``now`` is true; the answers to ``lost`` calls get lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = False
        self.words = "connection refused"
        self.lost = 0
        monkeypatch.setattr(tracking, "SECONDS_BETWEEN_DELIVERIES", 0.0)
        monkeypatch.setattr(tracking, "SECONDS_AFTER_FAILURE", 0.0)
        for name in (
            *("create_run", "get_run", "log_batch", "log_artifacts", "search_experiments"),
            *("set_tag", "set_terminated", "update_run", "get_experiment_by_name"),
            *("set_model_version_tag", "set_registered_model_alias"),
        ):
            call = getattr(mlflow.MlflowClient, name)
            monkeypatch.setattr(mlflow.MlflowClient, name, self._answered(call))
        with store_module.quiet_mlflow():
            models = importlib.import_module("mlflow.pyfunc")
        monkeypatch.setattr(models, "log_model", self._answered(models.log_model))

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
    """A store that counts as one of another host, in a folder that has reached it."""
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for module in (delivery, registry, tracking, store_module):
        for name, value in (("tracking_uri", lambda root: store), ("is_local", lambda uri: False)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    with start_run("first", tmp_path, {}, {}) as run:
        pass
    client(tmp_path).delete_run(str(run.run_id))
    return tmp_path


def spooled(root: Path) -> list[Path]:
    return [path for path in (root / ".tracking").iterdir() if path.is_dir()]


def steps(root: Path, run: Entity, name: str = "g") -> list[int]:
    return [metric.step for metric in client(root).get_metric_history(run.info.run_id, name)]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "NameResolutionError(\"HTTPConnection(host='gone', port=80): Failed to resolve 'gone' "
            '([Errno -2] Name or service not known)")',
            "Failed to resolve 'gone' ([Errno -2] Name or service not known)",
        ),
        (
            "ConnectTimeoutError(<HTTPConnection(host='10.0.0.1', port=80) at 0x7f34d335f240>, "
            "'Connection to 10.0.0.1 timed out. (connect timeout=10)')",
            "Connection to 10.0.0.1 timed out. (connect timeout=10)",
        ),
        (
            "SSLError(SSLCertVerificationError(1, 'self-signed certificate'))",
            "failed (Caused by SSLError(SSLCertVerificationError(1, 'self-signed certificate')))",
        ),
    ],
)
def test_of_a_server_that_cannot_be_reached_the_cause_is_told(
    server: Path, away: Away, reason: str, told: str
) -> None:
    away.now = True
    away.words = f"failed (Caused by {reason})"
    with pytest.raises(UserError) as found:
        check_store(server)
    assert f" cannot be used ({told}); start its server" in str(found.value)


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
    assert spooled(tmp_path) == []


def log_one_of_each(run: tracking.Run, folder: Path) -> None:
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
    assert spooled(root) == []


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
    assert sync(server) == delivery.Waiting([], [], [])
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
    go_on = delivery.Delivery.go_on
    monkeypatch.setattr(
        delivery.Delivery, "go_on", lambda self, most: (tried.append(1), go_on(self, most))[1]
    )
    assert sync(server).left == ["a", "b", "c"]
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
    assert spooled(server) == []


def test_a_generator_that_waited_is_not_the_candidate_before_a_newer_one(
    server: Path, away: Away
) -> None:
    away.now = True
    with start_run("older", server, {}, {}) as run:
        run.log_generator(package(server, frechet="1"))
    (left,) = spooled(server)
    kept = server / "kept"
    left.rename(kept)  # so that the next run cannot deliver it
    away.now = False
    with start_run("newer", server, {}, {}) as run:
        run.log_generator(package(server, frechet="2"))
    kept.rename(left)
    assert sync(server).delivered == ["older"]
    found = model_version(server, "chest-xray-gan-normal", CANDIDATE)
    assert found is not None
    assert found.tags["frechet"] == "2"
    assert len(client(server).search_model_versions("name = 'chest-xray-gan-normal'")) == 2


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
    assert sync(tmp_path).left == []  # that to the last call is asked for again
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
    assert sync(server).left == ["a"]
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
    assert spooled(tmp_path) == []


def test_an_experiment_that_another_host_makes_at_this_moment_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users who begin at once on a new server: the second one asks before the first has it."""
    made = client(tmp_path).create_experiment(store_module.EXPERIMENT)
    ask = mlflow.MlflowClient.get_experiment_by_name
    answers: list[object] = [None]

    def late(self: mlflow.MlflowClient, name: str) -> object:
        return answers.pop() if answers else ask(self, name)

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", late)
    with start_run("fetch", tmp_path, {}, {}):
        pass
    assert answers == []
    (run,) = client(tmp_path).search_runs([made])
    assert run.info.status == "FINISHED"


def test_an_experiment_that_somebody_deleted_is_named_with_the_way_out(tmp_path: Path) -> None:
    with start_run("a", tmp_path, {}, {}):
        pass
    number = only_run(tmp_path).info.experiment_id
    client(tmp_path).delete_experiment(number)
    with (
        pytest.raises(UserError, match=f"was deleted: restore it .* --experiment-id {number}"),
        start_run("b", tmp_path, {}, {}),
    ):
        pytest.fail("no work begins")
    client(tmp_path).restore_experiment(number)
    with start_run("b", tmp_path, {}, {}):
        pass


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
    assert len(waiting.left) == 1


def test_to_look_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    check_store(tmp_path)
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    "address",
    [
        "http://me:secret@host/x",
        "postgresql://me:se@secret@host/x",
        "postgresql://host/x?user=me&password=secret&a=1",
        "sqlite:///x.db?sslpassword=secret",
    ],
)
def test_no_address_shows_a_password(address: str) -> None:
    shown = store_module.hide_password(f"cannot reach {address} (because)")
    assert "secret" not in shown
    assert shown.startswith("cannot reach ")
    assert shown.endswith(" (because)")


def test_what_waits_names_no_password(
    tmp_path: Path, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/tracks")
    monkeypatch.setattr(tracking, "_reach", lambda root: UserError("away"))
    away.now = True
    with start_run("a", tmp_path, {}, {}) as run:
        run.log_metrics({"g": 1.0}, 1)
    for file in (tmp_path / ".tracking").rglob("*"):
        assert file.is_dir() or "secret" not in file.read_text()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    away.now = False
    assert sync(tmp_path).elsewhere == ["http://***@127.0.0.1:9/tracks"]


def test_an_exported_run_id_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_run("parent", tmp_path, {}, {}) as parent:
        monkeypatch.setenv("MLFLOW_RUN_ID", str(parent.run_id))
        with start_run("child", tmp_path, {}, {}) as child:
            assert child.run_id != parent.run_id


def test_two_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    code = (
        "import sys, pathlib; from src.tracking.runs import start_run\n"
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


def killed(root: Path, work: Callable[[tracking.Run], None], resume: str = "work") -> None:
    """Log in a process that is killed after ``work``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other threads are no matter here
        child = os.fork()
    if child == 0:
        with start_run("train", root, {"a": "1"}, {"dvc.experiment": "x"}, resume) as run:
            work(run)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def log_four(run: tracking.Run) -> None:
    log_some(run, 4)


def deliver_four(run: tracking.Run) -> None:
    log_some(run, 4)
    run.deliver(60)


@pytest.mark.parametrize("work", [log_four, deliver_four, lambda run: None])
def test_a_run_that_was_cut_off_is_taken_up_and_nothing_is_logged_twice(
    tmp_path: Path, work: Callable[[tracking.Run], None]
) -> None:
    killed(tmp_path, work)
    first = only_run(tmp_path).info.run_id
    with start_run("train", tmp_path, {"a": "1"}, {"dvc.experiment": "y"}, "work") as second:
        assert only_run(tmp_path).info.status == "RUNNING"
        log_some(second, 6)
    found = only_run(tmp_path)
    assert found.info.run_id == first
    assert found.info.status == "FINISHED"
    assert found.data.tags["dvc.experiment"] == "y"
    for name in ("g", "d1"):
        assert steps(tmp_path, found, name) == [1, 2, 3, 4, 5, 6]
    files = [f.path for f in client(tmp_path).list_artifacts(found.info.run_id, "images")]
    assert len([file for file in files if file.endswith(".png")]) == 3
    forget_work(tmp_path, "work")
    assert spooled(tmp_path) == []
    with start_run("train", tmp_path, {"a": "1"}, {}, "work") as third:
        assert third.run_id != first


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


def test_a_line_that_was_cut_off_is_no_entry(tmp_path: Path) -> None:
    killed(tmp_path, log_four)
    with (tmp_path / ".tracking" / "work" / "events.jsonl").open("a") as events:
        events.write('{"kind": "met')
    sync(tmp_path)
    assert steps(tmp_path, only_run(tmp_path)) == [1, 2, 3, 4]


def test_what_follows_a_damaged_line_is_lost_with_a_warning_and_the_rest_arrives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path, log_four)
    events = tmp_path / ".tracking" / "work" / "events.jsonl"
    lines = events.read_text().splitlines(keepends=True)
    (fourth,) = (place for place, line in enumerate(lines) if '"step": 4' in line)
    lines[fourth] = '{"kind": "met' + lines[fourth]
    events.write_text("".join(lines))
    sync(tmp_path)
    assert steps(tmp_path, only_run(tmp_path)) == [1, 2, 3]
    lost = len(lines) - fourth
    assert f"{lost} entries for MLflow are lost" in capsys.readouterr().err


def test_an_entry_for_which_the_disk_has_no_room_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spool"
    with closing(spool.Spool.made(folder, {"name": "a"})) as made:
        made.append({"kind": "tag", "key": "a", "value": "1"})
        opened = Path.open

        def full(self: Path, *arguments: Any, **named: Any) -> Any:
            with opened(self, *arguments, **named) as stream:
                stream.write('{"kind": "ta')
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            made.append({"kind": "tag", "key": "b", "value": "2"})
        monkeypatch.setattr(Path, "open", opened)
        made.append({"kind": "end", "status": "FAILED"})
    found = spool.Spool.found(folder, wait=False)
    assert found is not None
    with closing(found):
        assert [event["kind"] for event in found.events] == ["tag", "end"]


@pytest.mark.parametrize(("told", "delivered"), [("7", 2), ("", 0), ("1", 1)])
def test_after_a_power_cut_no_more_counts_as_delivered_than_there_is(
    tmp_path: Path, told: str, delivered: int
) -> None:
    with closing(spool.Spool.made(tmp_path / "spool", {"name": "a"})) as made:
        for key in ("a", "b"):
            made.append({"kind": "tag", "key": key, "value": "1"})
    (tmp_path / "spool" / "delivered").write_text(told)
    found = spool.Spool.found(tmp_path / "spool", wait=False)
    assert found is not None
    with closing(found):
        assert (found.delivered, found.waiting) == (delivered, 2 - delivered)


def test_a_run_of_other_parameters_is_not_taken_up_and_its_end_is_told(tmp_path: Path) -> None:
    killed(tmp_path, log_four)
    first = only_run(tmp_path).info.run_id
    with start_run("train", tmp_path, {"a": "2"}, {}, "work") as run:
        assert run.run_id != first
    found = client(tmp_path).get_run(first)
    assert found.info.status == "KILLED"
    assert steps(tmp_path, found) == [1, 2, 3, 4]


def test_a_run_that_somebody_deleted_is_made_anew(tmp_path: Path) -> None:
    killed(tmp_path, deliver_four)
    client(tmp_path).delete_run(only_run(tmp_path).info.run_id)
    with start_run("train", tmp_path, {"a": "1"}, {}, "work") as run:
        log_some(run, 5)
    assert steps(tmp_path, only_run(tmp_path)) == [1, 2, 3, 4, 5]


def test_of_works_that_may_go_on_only_the_newest_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "KEPT", 2)
    for number in range(4):
        with pytest.raises(KeyboardInterrupt), start_run("a", tmp_path, {}, {}, f"work{number}"):
            raise KeyboardInterrupt
        os.utime(tmp_path / ".tracking" / f"work{number}" / "events.jsonl", (number, number))
    (tmp_path / ".tracking" / ".new-left").mkdir()
    os.utime(tmp_path / ".tracking" / ".new-left", (1, 1))
    sync(tmp_path)
    assert {path.name for path in spooled(tmp_path)} == {"work2", "work3"}
