"""A project in a folder of any name, which is moved after a run."""

from pathlib import Path

import pytest

from tests.pipeline.project import Project

pytestmark = pytest.mark.long


def artifacts(project: Project) -> set[str]:
    """The ids of the runs with artifacts in the project's folder."""
    return {path.name for path in (project.path / "mlartifacts").iterdir()}


def test_store_and_artifacts_are_in_the_project_before_and_after_a_move(tmp_path: Path) -> None:
    project = Project.cloned(tmp_path / "a?b #1%20 c")
    project.repro("preprocess")
    assert [path.name for path in tmp_path.iterdir()] == ["a?b #1%20 c"]
    assert (project.path / "mlflow.db").is_file()
    first = artifacts(project)
    assert len(first) == 2  # of fetch and preprocess

    moved = Project(project.path.rename(tmp_path / "moved"))
    doctor = moved.run("python3", "-m", "src.doctor")
    assert "in a former folder of the project" in doctor
    output = moved.repro("-f", "-s", "preprocess")
    assert "the project was moved" in output
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    assert len(artifacts(moved) - first) == 1
    assert "in a former folder" not in moved.run("python3", "-m", "src.doctor")
