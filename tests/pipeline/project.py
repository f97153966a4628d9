"""A clone with tiny parameters, in which tests run stages as a user does."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from ruamel.yaml import YAML

from benchmarks.workspace import copy_project, without_the_users
from tests.conftest import shrink
from tests.servers import empty_store

STAGES = [
    "fetch",
    "preprocess",
    "train_normal",
    "train_pneumonia",
    "fid_eval",
    "privacy_eval",
    "utility_eval",
    "report",
]


class Project:
    """A clone with tiny parameters."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def cloned(cls, path: Path) -> Self:
        """Copy the files that git holds or would hold, and commit them with tiny parameters."""
        copy_project(path, without=["dvc.lock"])
        project = cls(path)
        project.change(shrink)
        project.git("init", "-q")
        project.git("add", "-A")
        project.git("commit", "-qm", "tiny")
        return project

    def copied(self, path: Path) -> Self:
        """The same clone elsewhere, with an empty tracking store of its own."""
        ignored = shutil.ignore_patterns("mlflow.db*", "mlartifacts", ".tracking")
        shutil.copytree(self.path, path, symlinks=True, ignore=ignored)
        shutil.copyfile(empty_store(), path / "mlflow.db")
        return type(self)(path)

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.path, check=True)

    def change(self, edit: Any) -> None:
        """Edit the parameters in place."""
        yaml = YAML()
        yaml.width = 10_000  # lines stay as they are
        file = self.path / "params.yaml"
        params = yaml.load(file)
        edit(params)
        yaml.dump(params, file)

    def run(self, *command: str, good: bool = True, **environment: str) -> str:
        """Run a command with this interpreter first on the path; its output."""
        done = subprocess.run(
            command,
            cwd=self.path,
            capture_output=True,
            text=True,
            env=_environment() | environment,
        )
        output = done.stdout + done.stderr
        assert (done.returncode == 0) == good, output
        return output

    def start(self, *command: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a command; what it prints goes on being readable as ``stdout``."""
        return subprocess.Popen(
            command,
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment() | environment,
        )

    def processes(self) -> list[int]:
        """The ids of the processes that work in the clone."""
        found = []
        for place in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):  # it has ended
                if place.readlink() == self.path:
                    found.append(int(place.parent.name))
        return found

    def repro(self, *arguments: str, good: bool = True, **environment: str) -> str:
        return self.run("dvc", "repro", *arguments, good=good, **environment)

    def changed_stages(self) -> list[str]:
        """The stages whose own code, parameters or inputs are not those of the last run."""
        output = self.repro("--dry")
        return [stage for stage in STAGES if f"Running stage '{stage}'" in output]

    def hashes(self) -> dict[str, str]:
        """Content of every output, by path."""
        lock = YAML(typ="safe").load(self.path / "dvc.lock")
        return {
            out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]
        }


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    """What a command has said when it says some words."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if words in line:
            return told
    raise AssertionError(told)


def runs(folder: Path, stage: str) -> list[tuple[str, str]]:
    """Id and status of each run of a stage in the MLflow store of a folder, the oldest first."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        return store.execute(
            "select r.run_uuid, r.status from runs r join tags t on r.run_uuid = t.run_uuid "
            "where t.key = 'dvc.stage' and t.value = ? order by r.start_time",
            (stage,),
        ).fetchall()


def _environment() -> dict[str, str]:
    """With this interpreter first on the path, and nothing of the user's."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return without_the_users() | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
