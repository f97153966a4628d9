"""Generators of a revision, wherever the project lies in its repository."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from src.common import paths
from src.common.errors import UserError
from src.tracking import find_generator as module
from src.tracking.find_generator import find_generator


@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("git", ["folder", "file", None])
@pytest.mark.parametrize("within", ["", "ml/gan/"])
def test_dvc_is_asked_by_the_path_from_the_top_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: str, git: str | None, is_link: bool
) -> None:
    top = tmp_path / "top"
    project = top / within
    project.mkdir(parents=True)
    if git == "folder":
        (top / ".git").mkdir()
    elif git == "file":  # a worktree or a submodule
        (top / ".git").write_text("gitdir: elsewhere")
    (tmp_path / "link").symlink_to(project)
    for each in (paths, module):
        monkeypatch.setattr(each, "PROJECT", project)
        monkeypatch.setattr(each, "HOME", tmp_path / "link" if is_link else project)
    asked: list[str] = []

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        asked.append(command[command.index("get") + 2])
        return subprocess.CompletedProcess(command, 1, "", "ERROR: it is away")

    monkeypatch.setattr(subprocess, "run", run)
    expected = f"{within if git else ''}models/normal/generator.pt"
    with (
        pytest.raises(UserError, match=rf"--rev v1: DVC cannot get {expected} \(it is away\)"),
        find_generator("NORMAL", revision="v1"),
    ):
        pass
    assert asked == [expected]


def test_what_dvc_says_of_a_remote_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC quotes a remote's address, whose password a driver may have cut out of it."""
    monkeypatch.setenv("SOME_REMOTE", "https://me:hunter%2Fmoon@host/x")
    error = "ERROR: https://me:hunter%2Fmoon@host/x: login with 'hunter/moon' failed\n"

    def refuse(*command: Any, **options: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess([], 1, "", error)

    monkeypatch.setattr(module.subprocess, "run", refuse)
    with (
        pytest.raises(UserError, match="DVC cannot get") as caught,
        find_generator("NORMAL", revision="main"),
    ):
        pytest.fail("there is none")
    assert r"(https://***@host/x: login with '***' failed)" in str(caught.value)


def test_of_a_checkout_of_another_owner_the_way_out_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = "ERROR: unexpected error - /x/.git/: repository path '/x' is not owned by current user"
    done = subprocess.CompletedProcess([], 255, "", error)
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: done)
    with (
        pytest.raises(UserError, match=r"^--rev main: .* another user's.* safe\.directory"),
        find_generator("NORMAL", revision="main"),
    ):
        pytest.fail("there is none")
