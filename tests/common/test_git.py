import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.common.git import foreign_owner


def test_only_what_git_says_of_another_owner_gets_the_hint(tmp_path: Path) -> None:
    (tmp_path / "it's" / ".git").mkdir(parents=True)
    project = tmp_path / "it's" / "gan"
    for said in (
        f"fatal: detected dubious ownership in repository at '{tmp_path}'",
        f"ERROR: {tmp_path}/.git/: repository path '{tmp_path}' is not owned by current user",
    ):
        hint = foreign_owner(project, said)
        assert hint is not None
        assert hint.startswith(f"{tmp_path}/it's is another user's, so git does not touch it")
        assert f"""safe.directory '{tmp_path}/it'"'"'s'` if you trust it""" in hint
    assert foreign_owner(project, "fatal: not a git repository") is None


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_dvc_and_git_refuse_a_checkout_of_another_owner_in_these_words(tmp_path: Path) -> None:
    for command in ("git init -q", "dvc init -q", "git add -A", "git commit -qm 1"):
        program, *rest = command.split()
        run = [sys.executable, "-m", "dvc"] if program == "dvc" else [program]
        name = {"GIT_AUTHOR_NAME": "me", "GIT_AUTHOR_EMAIL": "me@example.org"}
        name |= {"GIT_COMMITTER_NAME": "me", "GIT_COMMITTER_EMAIL": "me@example.org"}
        subprocess.run([*run, *rest], cwd=tmp_path, check=True, env=os.environ | name)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 65534, 65534)
    for refused in (
        ["git", "status"],
        [sys.executable, "-m", "dvc", "get", ".", ".dvcignore", "--rev=HEAD", "--out=x"],
    ):
        done = subprocess.run(refused, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode
        assert foreign_owner(tmp_path, done.stderr) is not None
