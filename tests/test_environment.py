"""Surroundings of every kind: a stage works in them, or one line says what is wrong with them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import TORTURE
from tests.pipeline.project import Project

pytestmark = pytest.mark.long

FETCH = (sys.executable, "-m", "pipeline.fetch")
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.cloned(tmp_path_factory.mktemp("Bébé's X-rays, no. 1") / "clone")


@pytest.fixture
def project(template: Project, tmp_path: Path) -> Project:
    return template.copied(tmp_path / "Bébé's X-rays, no. 2" / "clone")


def fetched(project: Project) -> bool:
    return len(list((project.path / "data" / "images").rglob("*.png"))) == 2 * (24 + 16)


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in names}


def path_without_git(folder: Path) -> str:
    """A search path with a shell and nothing else of the system."""
    (folder / "bin").mkdir()
    for name in ("sh", "env", "uname"):
        found = shutil.which(name)
        assert found is not None
        (folder / "bin" / name).symlink_to(found)
    return f"{Path(sys.executable).parent}{os.pathsep}{folder / 'bin'}"


def dvc(project: Project, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return subprocess.run(
        ["dvc", "repro", "fetch"],
        cwd=project.path,
        capture_output=True,
        text=True,
        env=environment | {"PATH": path},
    )


# CI's share; `make torture` tries all.
TRIED = ["no home", "a link"]
if TORTURE:
    TRIED += ["no git program", "a plain locale", "a dirty tree"]


@pytest.mark.parametrize("surroundings", TRIED)
def test_a_stage_works(surroundings: str, project: Project, tmp_path: Path) -> None:
    environment = without("XX")
    if surroundings == "no home":
        environment = without("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    elif surroundings == "no git program":
        environment["PATH"] = path_without_git(tmp_path)
    elif surroundings == "a plain locale":
        environment |= {"LC_ALL": "C", "TZ": "Asia/Kathmandu"}
    elif surroundings == "a dirty tree":
        (project.path / "README.md").write_text("mine")
        (project.path / "notes.txt").write_text("mine")
    else:
        link = tmp_path / "link"
        link.symlink_to(project.path)
        project = Project(link)
    done = dvc(project, environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert fetched(project)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Protect a folder, also from root; skipped without the right to mount."""
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("a protected folder needs the right to mount one")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder, folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def refused(project: Project, *command: str, **environment: str) -> str:
    """The one line of a command that fails."""
    output = project.run(*command, good=False, **environment)
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if line.lower().startswith("error: ")]
    assert len(lines) == 1, output
    return lines[0]


def test_a_protected_folder_is_named(project: Project) -> None:
    before = sorted(project.path.rglob("*"))
    with read_only(project.path):
        assert "Read-only file system" in refused(project, *FETCH)
        assert "Read-only file system" in refused(project, "dvc", "repro", "fetch")
    assert sorted(path for path in project.path.rglob("*") if "__pycache__" not in path.parts) == [
        path for path in before if "__pycache__" not in path.parts
    ]
    project.repro("fetch")


def test_a_folder_that_git_does_not_know_is_named(project: Project) -> None:
    (project.path / ".git").rename(project.path / "git")
    assert "is not a git repository" in refused(project, "dvc", "repro", "fetch")
    (project.path / "git").rename(project.path / ".git")
    project.repro("fetch")


def test_names_of_files_that_cannot_be_read_are_told(project: Project) -> None:
    assert "PYTHONUTF8=1" in refused(project, *FETCH, **ASCII)
    project.run(*FETCH, **ASCII | {"PYTHONUTF8": "1"})
    assert fetched(project)


def test_a_terminal_that_lacks_letters_gets_others(project: Project) -> None:
    output = project.run(sys.executable, "-m", "src.doctor", PYTHONIOENCODING="ascii")
    assert "B\\xe9b\\xe9's X-rays" in output
