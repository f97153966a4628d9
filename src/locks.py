"""Locks between processes of one host; the system lets go of those of a process that ends."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# What network file systems answer that have no locks, or not here.
NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


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


@contextmanager
def folder_lock(path: Path) -> Iterator[bool]:
    """The lock of a folder itself, without a file in it; whether no other process has it.

    Network file systems have no such locks; there every process gets it.

    Raises:
        FileNotFoundError: if it is not there.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield try_hold(folder) is not False
    finally:
        os.close(folder)


def try_hold(handle: int) -> bool | None:
    """Lock an open file or folder; whether that went, or None where there are no such locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True
