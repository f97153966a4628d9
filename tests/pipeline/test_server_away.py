"""A tracking server that refuses, hangs and comes back while stages work."""

import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import pytest
from PIL import Image

from tests.conftest import set_value
from tests.pipeline.project import Project, read_until, runs
from tests.servers import MlflowServer, mlflow_server, relay

pytestmark = pytest.mark.long

EPOCHS = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(f"sqlite:///{folder / 'mlflow.db'}", folder) as found:
        yield found


@pytest.fixture(scope="module")
def project(server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone that has reached the server and is ready to train."""
    found = Project.cloned(tmp_path_factory.mktemp("project") / "clone")
    found.change(set_value("train", "normal", "epochs", value=EPOCHS))
    found.repro("preprocess", **at(server))
    return found


def at(server: MlflowServer) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": server.address, "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}


def assert_everything_once(folder: Path, run: str) -> None:
    with sqlite3.connect(folder / "mlflow.db") as store:
        steps = store.execute(
            "select step from metrics where key = 'g' and run_uuid = ? order by step", (run,)
        ).fetchall()
    assert [step for (step,) in steps] == list(range(1, EPOCHS + 1))
    (artifacts,) = folder.rglob(f"{run}/artifacts")
    pictures = sorted(file.name.partition("+timestamp")[0] for file in artifacts.rglob("*.png"))
    assert pictures == ["samples+step+1", f"samples+step+{EPOCHS}"]
    assert (artifacts / "history.csv").is_file()


def test_a_stage_goes_on_without_its_server_and_later_all_is_there(
    project: Project, server: MlflowServer
) -> None:
    folder = server.folder
    # It refuses from the start to the end.
    server.stop(signal.SIGKILL)
    output = project.repro("train_normal", **at(server))
    assert f"the MLflow store {server.address} cannot be used" in output
    assert "`make sync` delivers them" in output
    assert "Traceback" not in output
    refused = project.run("python3", "-m", "src.sync", good=False, **at(server))
    assert "cannot be used" in refused
    server.start()
    assert runs(folder, "train_normal") == []
    assert "delivered to MLflow the waiting runs train_normal" in project.run(
        "python3", "-m", "src.sync", **at(server)
    )
    ((run, status),) = runs(folder, "train_normal")
    assert status == "FINISHED"
    assert_everything_once(folder, run)
    again = project.run("python3", "-m", "src.sync", **at(server))
    assert "nothing waits for this store" in again

    # It hangs, from some moment of the training to its end.
    process = project.start("dvc", "repro", "-f", "-s", "train_normal", **at(server))
    told = read_until(process, "epochs of")
    server.send(signal.SIGSTOP)
    told += process.communicate()[0]
    assert process.returncode == 0, told
    assert "`make sync` delivers them" in told
    server.send(signal.SIGCONT)

    # The next stage brings what waits.
    output = project.repro("-s", "train_pneumonia", **at(server))
    assert "delivered to MLflow the waiting runs train_normal" in output
    ((_, _), (run, status)) = runs(folder, "train_normal")
    assert status == "FINISHED"
    assert_everything_once(folder, run)


def test_an_upload_that_is_stuck_halfway_is_made_again_as_a_whole(
    project: Project, server: MlflowServer
) -> None:
    with relay(server) as between:
        place = at(server) | {"MLFLOW_TRACKING_URI": between.address}
        between.stalls.set()
        output = project.repro("-f", "-s", "train_normal", **place)
        assert between.stalled
        assert "`make sync` delivers them" in output
        between.stalls.clear()
        project.run("python3", "-m", "src.sync", **place)
    run, status = runs(server.folder, "train_normal")[-1]
    assert status == "FINISHED"
    assert_everything_once(server.folder, run)
    (artifacts,) = server.folder.rglob(f"{run}/artifacts")
    for picture in artifacts.rglob("*.png"):
        Image.open(picture).load()


def test_a_server_that_was_never_reached_is_refused(project: Project) -> None:
    nowhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    output = project.repro("-f", "-s", "preprocess", good=False, **nowhere)
    assert "error: the MLflow store http://127.0.0.1:9 cannot be used" in output
    assert "Traceback" not in output


def test_a_server_that_takes_its_time_is_waited_for_before_work_begins(
    project: Project, server: MlflowServer
) -> None:
    # By another name it is one that was never reached from here.
    place = at(server) | {"MLFLOW_TRACKING_URI": server.address.replace("127.0.0.1", "localhost")}
    before = len(runs(server.folder, "preprocess"))
    server.send(signal.SIGSTOP)
    try:
        process = project.start("dvc", "repro", "-f", "-s", "preprocess", **place)
        told = read_until(process, "is slow to answer: waiting")
    finally:
        server.send(signal.SIGCONT)
    told += process.communicate()[0]
    assert process.returncode == 0, told
    assert runs(server.folder, "preprocess")[before:] == [(ANY, "FINISHED")]


def test_secrets_of_the_environment_are_nowhere(
    finished: Project, server: MlflowServer, tmp_path: Path
) -> None:
    project = finished.copied(tmp_path / "clone")
    secrets = {
        "KAGGLE_USERNAME": "planted-name",
        "KAGGLE_KEY": "planted-key",
        "AWS_SECRET_ACCESS_KEY": "planted-aws",
        "MLFLOW_TRACKING_URI": server.address.replace("//", "//me:planted-password@"),
        "TUNE_STORAGE": "postgresql://me:planted-storage@127.0.0.1:9/tune",
    }
    output = "".join(
        project.repro("-f", "-s", stage, **secrets)
        for stage in ("preprocess", "train_normal", "report")
    )
    output += project.run("python3", "-m", "src.tune", "--class", "normal", good=False, **secrets)
    assert "Traceback" not in output
    assert "127.0.0.1:9" in output
    assert len(runs(server.folder, "report")) == 1  # it was the server that was asked
    assert "planted" not in output
    for folder in (project.path, server.folder):
        for file in folder.rglob("*"):
            # This file itself is in the clone.
            if file.is_file() and not {".git", "tests"} & set(file.relative_to(folder).parts):
                assert b"planted-" not in file.read_bytes(), file
