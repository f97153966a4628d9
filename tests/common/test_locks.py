import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from src.common.errors import UserError
from src.common.locks import folder_lock, lock, try_lock
from tests.conftest import ROOT

HOLDS = """
import pathlib, sys, time
from src.common.locks import lock
held = lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_it_is_held_until_it_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with lock(file):
        assert try_lock(file) is None
    again = try_lock(file)
    assert again is not None
    again.close()


def test_it_ends_with_the_process_that_has_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(file)], stdout=subprocess.PIPE, cwd=ROOT
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert try_lock(file) is None
        other.kill()
    lock(file).close()


def test_a_folder_has_a_lock_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder_lock(tmp_path) as free:
        assert free
        with folder_lock(tmp_path) as again:
            assert not again
    with folder_lock(tmp_path) as free:
        assert free
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError), folder_lock(tmp_path / "absent"):
        pass

    def unknown(folder: int, operation: int) -> None:
        raise OSError(number, "")  # as NFS says, and Lustre

    monkeypatch.setattr(fcntl, "flock", unknown)
    for number in (errno.EBADF, errno.ENOLCK, errno.ENOSYS):  # noqa: B007, what `unknown` raises
        with folder_lock(tmp_path) as free:
            assert free is None


def test_a_file_that_was_moved_while_it_was_waited_for_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds it may remove it, or move its folder, before it is let go."""
    file, moved = tmp_path / "old" / "lock", tmp_path / "new"
    file.parent.mkdir()
    really = fcntl.flock
    moves = [lambda: file.unlink(), lambda: file.parent.rename(moved)]

    def late(handle: IO[str], operation: int) -> None:
        if moves:
            moves.pop(0)()
        really(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(FileNotFoundError):  # first it is made anew, then the folder is gone
        lock(file)
    assert not moves
    with lock(moved / "lock"):
        assert try_lock(moved / "lock") is None


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EINVAL])
def test_a_file_system_without_locks_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unknown(file: IO[str], operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unknown)
    for take in (lock, try_lock):
        with pytest.raises(UserError, match="lock: its file system has no locks"):
            take(tmp_path / "lock")


def test_a_lock_without_its_folder_is_refused(tmp_path: Path) -> None:
    for take in (lock, try_lock):
        with pytest.raises(FileNotFoundError):
            take(tmp_path / "none" / "lock")
