"""A second machine takes over what the first one made, through a DVC remote."""

from pathlib import Path

import pytest

from tests.pipeline.project import Project

pytestmark = pytest.mark.long


def test_a_second_clone_pulls_what_the_first_one_pushed(tmp_path: Path) -> None:
    first = Project.cloned(tmp_path / "first")
    first.repro("preprocess")
    first.run("dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    first.run("dvc", "push")
    first.git("add", "-A")
    first.git("commit", "-qm", "data")

    second = Project(tmp_path / "second")
    first.run("git", "clone", "-q", str(first.path), str(second.path))
    second.run("dvc", "pull", "data/arrays/normal/train.npy")
    name = Path("data/arrays/normal/train.npy")
    assert (second.path / name).read_bytes() == (first.path / name).read_bytes()
    assert not (second.path / "data" / "images").exists()
    second.run("dvc", "pull", "fetch", "preprocess")
    output = second.repro("preprocess", "--dry")
    assert output.count("didn't change") == 2
