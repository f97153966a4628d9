"""Several at once: in one checkout, in a queue, on one tracking server."""

import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.conftest import TORTURE, set_value
from tests.pipeline.project import Project, read_until
from tests.servers import mlflow_server

pytestmark = pytest.mark.long

torture = pytest.mark.skipif(not TORTURE, reason="`make torture` tries it")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone that is ready to train."""
    project = Project.cloned(tmp_path_factory.mktemp("template") / "clone")
    project.repro("preprocess")
    project.git("add", "-A")
    project.git("commit", "-qm", "data")
    return project


@pytest.fixture
def project(template: Project, tmp_path: Path) -> Project:
    return template.copied(tmp_path / "clone")


def statuses(folder: Path) -> list[tuple[str, str]]:
    """Name and status of each run, in the order of names."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        return store.execute("select name, status from runs order by name").fetchall()


def test_a_second_dvc_in_a_checkout_is_refused_and_the_first_goes_on(project: Project) -> None:
    project.change(set_value("train", "normal", "epochs", value=400))
    first = project.start("dvc", "repro", "train_normal")
    read_until(first, "epochs of")
    first.send_signal(signal.SIGSTOP)  # its training may end meanwhile; it holds its lock
    output = project.repro("train_normal", good=False)
    first.send_signal(signal.SIGCONT)
    assert output.count("ERROR: ") == 1
    assert "Traceback" not in output
    assert "lock" in output
    told = first.communicate()[0]
    assert first.returncode == 0, told
    assert "didn't change" in project.repro("train_normal")
    assert statuses(project.path) == [("train_normal (workspace)", "FINISHED")]


@torture
def test_a_search_beside_a_training(project: Project) -> None:
    project.change(set_value("train", "pneumonia", "epochs", value=200))
    training = project.start("dvc", "repro", "train_pneumonia")
    search = project.start("python3", "-m", "src.tune", "--class", "normal", "--workers", "2")
    outputs = [process.communicate()[0] for process in (training, search)]
    assert [training.returncode, search.returncode] == [0, 0], outputs
    assert "Traceback" not in "".join(outputs)
    found = statuses(project.path)
    assert ("train_pneumonia (workspace)", "FINISHED") in found
    assert {status for _, status in found} == {"FINISHED"}


@torture
def test_two_users_of_one_tracking_server(template: Project, tmp_path: Path) -> None:
    users = [template.copied(tmp_path / name / "clone") for name in ("a", "b")]
    users[1].change(set_value("train", "normal", "seed", value=5))
    with mlflow_server(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path) as server:
        place = {"MLFLOW_TRACKING_URI": server.address}
        both = [user.start("dvc", "repro", "train_normal", **place) for user in users]
        outputs = [process.communicate()[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], outputs
    assert statuses(tmp_path) == [("train_normal (workspace)", "FINISHED")] * 2
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        counts = store.execute(
            "select count(*) from metrics where key = 'g' group by run_uuid"
        ).fetchall()
        seeds = store.execute(
            "select value from params where key = 'train.normal.seed' order by value"
        ).fetchall()
    assert counts == [(3,), (3,)]
    assert len(set(seeds)) == 2


@torture
def test_a_queue_with_two_workers(project: Project) -> None:
    for seed in (1, 2, 3):
        project.run("dvc", "exp", "run", "--queue", "-S", f"train.normal.seed={seed}")
    project.run("dvc", "queue", "start", "--jobs", "2")
    deadline = time.monotonic() + 1200
    while (told := project.run("dvc", "queue", "status")).count("Success") < 3:
        assert "Failed" not in told, told
        assert time.monotonic() < deadline, told
        time.sleep(5)
    project.run("dvc", "queue", "stop")
    found = [status for name, status in statuses(project.path) if name.startswith("train_normal")]
    assert found == ["FINISHED"] * 3
