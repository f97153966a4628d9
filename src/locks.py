"""Locks between processes of one host; the system lets go of those of a process that ends."""

import fcntl
from pathlib import Path
from typing import IO


def lock(path: Path) -> IO[str]:
    """The lock of a file, waited for, and held until it is closed or the process ends.

    Args:
        path: made if it is not there.

    Raises:
        FileNotFoundError: if its folder is not there.
    """
    return _locked(path, fcntl.LOCK_EX)


def try_lock(path: Path) -> IO[str] | None:
    """As ``lock``, but None if another process has it."""
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _locked(path: Path, operation: int) -> IO[str]:
    file = path.open("a")
    try:
        fcntl.flock(file, operation)
    except BaseException:
        file.close()
        raise
    return file
