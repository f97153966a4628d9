"""The project in git repositories of every kind, and amid a merge."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import set_value
from tests.pipeline.project import Project

pytestmark = pytest.mark.long

PYTHON = sys.executable
IDENTITY = {
    f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def checkout(kind: str, path: Path) -> Project:
    """A clone as a folder of a repository, as a worktree or as a submodule."""
    if kind == "folder":
        project = Project.cloned(path / "top" / "ml" / "gan")
        shutil.rmtree(project.path / ".git")
        top = Project(path / "top")
        top.git("init", "-qb", "main")
        top.git("add", "-A")
        top.git("commit", "-qm", "tiny")
        return project
    first = Project.cloned(path / "first")
    project = Project(path / "super" / "gan")
    if kind == "worktree":
        first.git("worktree", "add", "-q", "-b", "new", str(project.path))
    else:
        project.path.parent.mkdir()
        above = Project(project.path.parent)
        above.git("init", "-q")
        above.git(
            "-c", "protocol.file.allow=always", "submodule", "-q", "add", str(first.path), "gan"
        )
    assert (project.path / ".git").is_file()
    return project


def drawn(project: Project, revision: str) -> bytes:
    """The first image of a revision's generator."""
    out = project.path / "synthetic" / revision
    command = [PYTHON, "-m", "src.generate", "--class", "normal", "--count", "1"]
    project.run(*command, "--rev", revision, "--out", str(out))
    (image,) = (out / "train" / "NORMAL").iterdir()
    return image.read_bytes()


@pytest.mark.parametrize("kind", ["folder", "worktree", "submodule"])
def test_the_commands_work(kind: str, tmp_path: Path) -> None:
    project = checkout(kind, tmp_path)
    project.repro("train_normal")
    project.git("add", "-A")
    project.git("commit", "-qm", "trained")
    assert "git: all is committed" in project.run(PYTHON, "-m", "src.doctor")
    for number, more in enumerate(([], ["--temp"])):  # in the checkout, and in a copy
        options = ["-n", f"e{number}", *more, "-S", f"train.normal.epochs={1 + number}"]
        project.run("dvc", "exp", "run", *options, "train_normal", **IDENTITY)
    table = project.run(PYTHON, "-m", "src.compare")
    assert re.search(r"^ +e0 \w{9} +1 ", table, re.MULTILINE)
    assert re.search(r"^ +e1 \w{9} +2 ", table, re.MULTILINE)
    assert drawn(project, "HEAD") != drawn(project, "e1")
    assert "nothing waits for this store" in project.run(PYTHON, "-m", "src.sync")


def test_a_revision_of_another_machine_comes_from_the_remote(tmp_path: Path) -> None:
    """In a folder of a repository DVC looks up a revision in its cache alone."""
    project = checkout("folder", tmp_path)
    project.repro("train_normal")
    project.run("dvc", "remote", "add", "--default", "shared", "../../../remote")
    project.git("add", "-A")
    project.git("commit", "-qm", "trained")
    project.run("dvc", "push")
    shutil.rmtree(project.path / ".dvc" / "cache")
    command = [PYTHON, "-m", "src.generate", "--class", "normal", "--rev", "HEAD", "--out", "out"]
    refused = project.run(*command, good=False)
    assert "cannot get ml/gan/models/normal/generator.pt" in refused
    (way_out,) = re.findall("`(dvc fetch[^`]*)`", refused)
    project.run(*way_out.split(), "models/normal/generator.pt")
    project.run(*command)


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone on main, beside a branch `side`; both have run with parameters of their own."""
    project = Project.cloned(tmp_path_factory.mktemp("branches") / "clone")
    project.git("branch", "-qM", "main")
    for branch, name, value in (
        ("main", "train_per_class", 24),
        ("side", "test_per_class", 18),
        ("main", "train_per_class", 26),
    ):
        project.git("checkout", "-q", *(["-b"] if branch == "side" else []), branch)
        project.change(set_value("data", "phantom", name, value=value))
        project.repro("preprocess")
        project.git("add", "-A")
        project.git("commit", "-qm", f"{name}: {value}")
    return project


@pytest.mark.parametrize(
    ("operation", "side"),
    [("merge", "--ours"), ("rebase", "--theirs"), ("cherry-pick", "--theirs")],
)
def test_a_conflict_is_settled_as_the_doctor_says(
    branches: Project, tmp_path: Path, operation: str, side: str
) -> None:
    project = branches.copied(tmp_path / "clone")
    project.run("git", operation, "side", good=False, **IDENTITY)
    # Parameters are settled first, since nothing runs without them.
    params = project.path / "params.yaml"
    for command in ("src.doctor", "pipeline.fetch"):
        refused = project.run(PYTHON, "-m", command, good=False)
        assert "error: merge conflict in params.yaml: keep what is right" in refused
    project.git("checkout", "--ours", "params.yaml")
    project.change(set_value("data", "phantom", "train_per_class", value=26))
    project.change(set_value("data", "phantom", "test_per_class", value=18))
    # Then what the stages made.
    told = project.run(PYTHON, "-m", "src.doctor", good=False)
    (conflict,) = re.findall("^problem +(merge conflict in .*)$", told, re.MULTILINE)
    assert "dvc.lock" in conflict
    assert "reports/metrics/fetch.json" in conflict
    restore, remove, _, add = re.findall("`([^`]+)`", conflict)
    project.run(*restore.replace("--ours", side).split())
    assert remove == restore.replace("git checkout --ours", "rm")
    project.repro("preprocess")
    assert len(list((project.path / "data" / "images").rglob("*.png"))) == 2 * (26 + 18)
    project.run(*add.split(), "params.yaml")
    continued = ["commit", "--no-edit"] if operation == "merge" else [operation, "--continue"]
    project.run("git", *continued, GIT_EDITOR="true", **IDENTITY)
    assert "git: all is committed" in project.run(PYTHON, "-m", "src.doctor")
    assert project.repro("preprocess").count("didn't change") == 2
    assert params.read_text().count("<<<<<<<") == 0


def test_a_lock_with_a_conflict_that_was_committed_is_made_again_from_the_cache(
    branches: Project, tmp_path: Path
) -> None:
    project = branches.copied(tmp_path / "clone")
    lock = project.path / "dvc.lock"
    before = project.hashes()
    lock.write_text(f"<<<<<<< HEAD\n=======\n>>>>>>> side\n{lock.read_text()}")
    project.git("commit", "-qam", "careless")
    assert "(if no merge is under way `rm dvc.lock`)" in project.run(
        PYTHON, "-m", "src.doctor", good=False
    )
    lock.unlink()
    assert project.repro("preprocess").count("is cached - skipping run") == 2
    assert project.hashes() == before
