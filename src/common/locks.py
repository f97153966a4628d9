"""Locks between processes of one host; the system releases those of a process that ends.

They use ``flock`` directly and not the package filelock, since what is locked here is renamed,
replaced and removed while others wait for it:

- ``filelock.FileLock`` checks that the file which it locked was not removed, but not that it still
  lies at its path. After a rename it may hold a lock that excludes nobody.
- It creates a missing folder, where ``lock`` must fail: the folder was removed with its content.
- Where a file system has no ``flock`` it uses marker files, which outlive a killed process, or
  passes on the system's error. Here the answer is one clear error, or "not known".
- ``filelock.lock_descriptor``, for folders and for temporary files that are open anyway, is one
  call of ``flock``; it would save nothing.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import UserError

# What network file systems answer that have no locks, or not here.
NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


def lock(path: Path) -> IO[str]:
    """The lock of a file, waited for, and held until it is closed or the process ends.

    Args:
        path: made if it is not there.

    Raises:
        FileNotFoundError: if its folder is not there.
        UserError: if the file system has no locks.
    """
    return _locked(path, fcntl.LOCK_EX)


def try_lock(path: Path) -> IO[str] | None:
    """As ``lock``, but None if another process has it."""
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _locked(path: Path, operation: int) -> IO[str]:
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, operation)
            if _lies_at(file, path):
                return file
        except BaseException as error:
            file.close()
            if isinstance(error, OSError) and error.errno in NO_LOCKS:
                raise UserError(
                    f"{path}: its file system has no locks; keep the project on one that has"
                ) from error
            raise
        file.close()  # who held it has removed or moved it: what lies there now is another


def _lies_at(file: IO[str], path: Path) -> bool:
    """Whether an open file still has its path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


@contextmanager
def folder_lock(path: Path) -> Iterator[bool | None]:
    """The lock of a folder itself, without a file in it; whether no other process has it.

    Network file systems have no such locks: None, since nobody knows.

    Raises:
        FileNotFoundError: if it is not there.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield try_lock_handle(folder)
    finally:
        os.close(folder)


def try_lock_handle(handle: int) -> bool | None:
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
