"""A project that is moved or copied after a run, with its store and its artifacts."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from src.report.machine import check_tracking
from src.tracking import address
from src.tracking.artifacts import artifact_uri, relocate_artifacts
from src.tracking.delivery import sync
from src.tracking.registry import download_generator
from src.tracking.runs import start_run
from src.tracking.store import check_store, count_moved, ensure_experiment
from tests.tracking.conftest import client, killed, log_some, only_run, outboxes, package

MODEL = "models:/chest-xray-gan-normal/1"


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow writes the address of a store that it is pointed to into the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project with a run, a file of it and a registered generator."""
    root = tmp_path / "first"
    root.mkdir()
    (tmp_path / "mlflow.db").rename(root / "mlflow.db")
    log(root)
    return root


def log(root: Path) -> str:
    """Log a file and a generator in a new run; its id."""
    os.environ["MLFLOW_TRACKING_URI"] = ""
    (root / "note.txt").write_text("seen")
    with start_run("report", root, {}, {}) as run:
        run.log_file(root / "note.txt")
        run.log_generator(package(root))
    return str(run.run_id)


def generator(root: Path) -> bytes:
    """The registered generator, as `src.generate --model` gets it."""
    os.environ["MLFLOW_TRACKING_URI"] = ""
    (root / "to").mkdir()
    return download_generator(root, MODEL, root / "to").read_bytes()


def locations(root: Path) -> set[str]:
    """All folders of artifacts that a store names, but for what follows the common folder."""
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        dump = "\n".join(store.iterdump())
    return {part.rpartition("file://")[2] for part in dump.split("/mlartifacts")[:-1]}


def test_a_moved_project_has_its_old_artifacts_and_its_new_ones(project: Path) -> None:
    old = only_run(project).info.run_id
    moved = project.rename(project.with_name("sec?nd #1 %20"))
    assert generator(moved) == (moved / "g.pt").read_bytes()
    new = log(moved)
    assert not project.exists()
    assert locations(moved) == {artifact_uri(moved).removeprefix("file://").rpartition("/")[0]}
    mlflow.set_tracking_uri(address.tracking_uri(moved))
    for run in (old, new):
        assert (moved / "mlartifacts" / run / "artifacts" / "note.txt").is_file()
        file = mlflow.artifacts.download_artifacts(run_id=run, artifact_path="note.txt")
        assert Path(file).read_text() == "seen"
    back = moved.rename(project)
    assert generator_again(back) == (back / "g.pt").read_bytes()


def generator_again(root: Path) -> bytes:
    shutil.rmtree(root / "to")
    return generator(root)


def test_the_first_run_after_a_move_writes_into_the_project(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = project.rename(project.with_name("second"))
    capsys.readouterr()
    run = log(moved)
    assert capsys.readouterr().err.count("the project was moved") == 1
    assert not project.exists()
    assert (moved / "mlartifacts" / run / "artifacts" / "note.txt").is_file()


def test_a_copy_has_artifacts_of_its_own(project: Path) -> None:
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    before = sorted(project.rglob("*"))
    shutil.rmtree(project / "mlartifacts" / "models")  # the copy needs none of the original's
    run = log(copy)
    assert generator(copy) == (copy / "g.pt").read_bytes()
    assert not [path for path in project.rglob("*") if path not in before]
    assert (copy / "mlartifacts" / run).is_dir()


def test_a_copy_without_artifacts_names_those_of_the_original(project: Path) -> None:
    copy = project.with_name("copy")
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("mlartifacts"))
    run = log(copy)
    assert (copy / "mlartifacts" / run).is_dir()
    assert generator(copy) == (project / "g.pt").read_bytes()


def test_projects_that_share_a_store_keep_their_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = [tmp_path / name for name in ("one", "two")]
    shared = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for root in roots:
        root.mkdir()
        (root / "mlartifacts").mkdir()
        monkeypatch.setattr(address, "tracking_uri", lambda root: shared)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", shared)
        ensure_experiment(client(tmp_path), root, root.name)
    assert relocate_artifacts(tmp_path / "mlflow.db", roots[0]) == 0
    moved = roots[0].rename(tmp_path / "three")
    assert relocate_artifacts(tmp_path / "mlflow.db", moved) == 1
    places = [client(tmp_path).get_experiment_by_name(name) for name in ("one", "two")]
    assert [place and place.artifact_location for place in places] == [
        artifact_uri(moved),
        artifact_uri(roots[1]),
    ]


def test_other_locations_stay(project: Path) -> None:
    """A place of a user's own, and a name that only begins alike."""
    other = ["s3://bucket/mlartifacts", "file:///gone/mlartifacts-of-mine", "file:///gone/runs"]
    for number, place in enumerate(other):
        client(project).create_experiment(str(number), artifact_location=place)
    moved = project.rename(project.with_name("second"))
    log(moved)
    found = [client(moved).get_experiment_by_name(str(number)) for number in range(len(other))]
    assert [place and place.artifact_location for place in found] == other


def test_doctor_says_that_the_project_was_moved_and_changes_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = project.rename(project.with_name("second"))
    monkeypatch.setattr("src.report.machine.HOME", moved)
    os.environ["MLFLOW_TRACKING_URI"] = ""
    before = (moved / "mlflow.db").read_bytes()
    kinds = [finding.kind for finding in check_tracking(None)]  # type: ignore[arg-type]
    assert kinds == ["ok", "note"]
    check_store(moved)
    assert (moved / "mlflow.db").read_bytes() == before
    assert count_moved(moved) > 0
    log(moved)
    assert [finding.kind for finding in check_tracking(None)] == ["ok"]  # type: ignore[arg-type]


def test_what_waits_is_delivered_after_a_move_and_interrupted_work_goes_on(project: Path) -> None:
    killed(project, lambda run: log_some(run, 2))
    (left,) = outboxes(project)
    # As earlier versions wrote it.
    header = left / "run.json"
    store = '"sqlite:///mlflow.db"'
    assert store in header.read_text()
    header.write_text(header.read_text().replace(store, f'"sqlite:///{project}/mlflow.db"'))
    moved = project.rename(project.with_name("second"))
    os.environ["MLFLOW_TRACKING_URI"] = ""
    assert sync(moved).delivered == ["train"]
    with start_run("train", moved, {"a": "1"}, {"dvc.experiment": "x"}, "work") as run:
        log_some(run, 3)
    experiment = client(moved).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    found = client(moved).search_runs([experiment.experiment_id], "attributes.run_name = 'train'")
    assert len(found) == 1
    history = client(moved).get_metric_history(found[0].info.run_id, "g")
    assert [metric.step for metric in history] == [1, 2, 3]
