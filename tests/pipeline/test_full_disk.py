"""Every stage on a full disk: one line, nothing good is lost, and it works once there is room."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TORTURE
from tests.pipeline.project import Project

pytestmark = pytest.mark.long

STAGES = {
    "fetch": ("pipeline.fetch",),
    "preprocess": ("pipeline.preprocess",),
    "train_normal": ("pipeline.train", "normal"),
    "fid_eval": ("pipeline.fid_eval",),
    "privacy_eval": ("pipeline.privacy_eval",),
    "utility_eval": ("pipeline.utility_eval",),
    "report": ("pipeline.report",),
    "generate": ("src.generate", "--class", "normal", "--count", "400", "--out", "synthetic"),
}
OUTPUTS = ("data", "models", "reports", "params.yaml")
LEFT = (0, 24)  # KiB that are free when a stage starts


@pytest.fixture(scope="module")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A finished run on a file system of its own."""
    disk = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        found = finished.copied(disk / "clone")
        found.repro()
        yield found
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def contents(project: Project) -> dict[str, str]:
    """The checksum of every file that a stage may write."""
    files = [
        file
        for place in OUTPUTS
        for file in [project.path / place, *(project.path / place).rglob("*")]
        if file.is_file()
    ]
    return {
        file.relative_to(project.path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def fill(project: Project, left: int) -> Path:
    """Take all the room but so many KiB."""
    filler = project.path / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            pass
        stream.truncate(max(stream.tell() - left * 1024, 0))
    return filler


# CI's share; `make torture` tries all.
TRIED = list(STAGES) if TORTURE else ["fetch", "train_normal", "report"]


@pytest.mark.parametrize("name", TRIED)
def test_a_full_disk_costs_nothing_that_was_good(project: Project, name: str) -> None:
    module, *arguments = STAGES[name]
    command = (sys.executable, "-m", module, *arguments)
    before = contents(project)
    failed = 0
    for left in LEFT:
        filler = fill(project, left)
        try:
            done = subprocess.run(
                command, cwd=project.path, capture_output=True, text=True, timeout=300
            )
        finally:
            filler.unlink()
        output = done.stdout + done.stderr
        assert "Traceback" not in output, output
        if done.returncode == 0:  # there was enough room for it
            continue
        failed += 1
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, output
        assert "No space left" in errors[0] or "disk is full" in errors[0] or "I/O" in errors[0]
        now = contents(project)
        assert {path: now.get(path) for path in before} == before
        assert set(now) == set(before)
    assert failed
    project.run(*command)
    if name != "generate":
        after = contents(project)
        assert {path: after.get(path) for path in before} == before  # the same bytes again
