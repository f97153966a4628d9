"""Conflicts are seen in files as git leaves them, and the ways out work in git."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from src.common import outputs, paths
from src.common.conflicts import describe_conflicts, has_conflict
from src.common.errors import UserError
from src.config.presets import preset_overrides
from src.config.settings import load_settings

NAMES = ["dvc.lock", "data.dvc", "params.yaml", "reports/metrics/fid.json"]
# What leaves a conflict on the branch main, where `side` and main changed the same lines.
OPERATIONS = ["merge side", "rebase side", "cherry-pick side", "revert main~1", "stash pop"]


def git(folder: Path, *arguments: str, good: bool = True) -> str:
    identity = {
        f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | identity | {"GIT_EDITOR": "true"},
    )
    assert not good or done.returncode == 0, done.stderr
    return done.stdout


def write(folder: Path, text: str) -> None:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def commit(folder: Path, text: str) -> None:
    write(folder, text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", text)


@pytest.fixture(params=["project", "a folder/of another"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project, of its own repository or in a folder of one, with two branches."""
    folder = tmp_path / request.param
    folder.mkdir(parents=True)
    git(folder if request.param == "project" else tmp_path, "init", "-qb", "main")
    commit(folder, "a: 0\n")
    git(folder, "checkout", "-qb", "side")
    commit(folder, "a: 1\n")
    git(folder, "checkout", "-q", "main")
    commit(folder, "a: 2\n")
    commit(folder, "a: 3\n")
    return folder


def conflicting(folder: Path, operation: str) -> None:
    """Run what ends with conflicts in all files."""
    if operation == "stash pop":
        git(folder, "checkout", "-q", "main~2")
        write(folder, "a: 4\n")
        git(folder, "stash", "-q")
        git(folder, "checkout", "-q", "main")
    git(folder, *operation.split(), good=False)


@pytest.mark.parametrize(
    ("operation", "style"),
    [*((each, "merge") for each in OPERATIONS), ("merge side", "diff3"), ("merge side", "zdiff3")],
)
def test_the_ways_out_work_in_git(folder: Path, operation: str, style: str) -> None:
    git(folder, "config", "merge.conflictStyle", style)
    conflicting(folder, operation)
    assert all(has_conflict((folder / name).read_text()) for name in NAMES)
    # What does for a file that was cut is refused here.
    assert subprocess.run(["git", "checkout", "dvc.lock"], cwd=folder).returncode != 0
    # Do as the description says.
    (folder / "params.yaml").write_text("a: 5\n")
    commands = re.findall("`([^`]+)`", describe_conflicts(NAMES))
    restore = [command for command in commands if command.startswith("git checkout --ours")]
    assert len(restore) == 2
    for command in restore:
        subprocess.run(shlex.split(command), cwd=folder, check=True)
        theirs = command.replace("--ours", "--theirs")
        subprocess.run(shlex.split(theirs), cwd=folder, check=True)
    assert not any(has_conflict((folder / name).read_text()) for name in NAMES)
    subprocess.run(shlex.split(commands[-1]), cwd=folder, check=True)
    assert git(folder, "ls-files", "--unmerged") == ""


@pytest.mark.parametrize(
    "text", ["", "a: 1\n", "title\n=======\n", "<<<<<< six\n", "a: <<<<<<< HEAD\n", ">>>>>>> x\n"]
)
def test_other_files_have_none(text: str) -> None:
    assert not has_conflict(text)


def test_each_kind_of_file_has_its_way_out() -> None:
    assert describe_conflicts(["dvc.yaml"]) == (
        "merge conflict in dvc.yaml: keep what is right between <<<<<<< and >>>>>>>; at last "
        "`git add dvc.yaml`"
    )
    assert "`dvc checkout`" in describe_conflicts(["x y.dvc"])
    assert "git checkout --ours 'x y.dvc'" in describe_conflicts(["x y.dvc"])
    assert "`dvc repro`" in describe_conflicts(["dvc.lock"])


CONFLICT = "<<<<<<< HEAD\n{}\n=======\n[]\n>>>>>>> side\n"


def read_params(folder: Path) -> None:
    (folder / "params.yaml").write_text(CONFLICT)
    load_settings(folder / "params.yaml")


def read_preset(folder: Path) -> None:
    (folder / "mine.yaml").write_text(CONFLICT)
    preset_overrides("mine", "normal")


def read_metrics(folder: Path) -> None:
    file = folder / "reports" / "metrics" / "fid.json"
    file.parent.mkdir(parents=True)
    file.write_text(CONFLICT)
    outputs.read_metrics("fid")


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (read_params, "params.yaml: keep"),
        (read_preset, "networks/mine.yaml: keep"),
        (read_metrics, "reports/metrics/fid.json: `git checkout --ours"),
    ],
)
def test_readers_tell_a_conflict_from_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], None], named: str
) -> None:
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.setattr(outputs, "METRICS", tmp_path / "reports" / "metrics")
    monkeypatch.setattr("src.config.presets.FOLDER", tmp_path)
    with pytest.raises(UserError, match=f"^merge conflict in {named}"):
        read(tmp_path)
