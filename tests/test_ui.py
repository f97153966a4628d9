import os
from pathlib import Path

import pytest

from src import ui
from src.common.errors import UserError
from src.tracking.address import sqlite_file
from src.tracking.artifacts import artifact_uri
from src.tracking.store import count_moved, find_experiment
from tests.tracking.conftest import client


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environments of the UIs that were started for the project ``tmp_path / "here"``."""
    environments: list[dict[str, str]] = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setattr(ui, "HOME", tmp_path / "here")
    monkeypatch.setattr(os, "execve", lambda *arguments: environments.append(arguments[2]))
    return environments


def test_the_ui_shows_the_artifacts_of_a_moved_project(
    tmp_path: Path, started: list[dict[str, str]]
) -> None:
    (tmp_path / "there").mkdir()
    find_experiment(tmp_path / "there", "an experiment")
    here = (tmp_path / "there").rename(tmp_path / "here")
    assert count_moved(here) > 0
    ui.open_ui(5000)
    (environment,) = started
    assert sqlite_file(environment["MLFLOW_BACKEND_STORE_URI"]) == here / "mlflow.db"
    experiment = client(here).get_experiment_by_name("an experiment")
    assert experiment is not None
    assert experiment.artifact_location == artifact_uri(here)


def test_without_a_run_there_is_no_ui(started: list[dict[str, str]]) -> None:
    with pytest.raises(UserError, match="no run was logged here yet"):
        ui.open_ui(5000)
    assert started == []


def test_a_server_has_a_ui_of_its_own(
    started: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    ui.open_ui(5000)
    assert capsys.readouterr().out.startswith("MLFLOW_TRACKING_URI names a server")
    assert started == []
