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
    """Wait for the lock of a file; it is held until it is closed or the process ends.

    Args:
        path: the lock file, which is created if it is missing.

    Raises:
        FileNotFoundError: if the file's folder does not exist.
        UserError: if the file system has no locks.
    """
    return _acquire(path, fcntl.LOCK_EX)


def try_lock(path: Path) -> IO[str] | None:
    """Acquire the lock as ``lock`` does, or return None if another process holds it."""
    try:
        return _acquire(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _acquire(path: Path, operation: int) -> IO[str]:
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, operation)
            if _is_at(file, path):
                return file
        except BaseException as error:
            file.close()
            if isinstance(error, OSError) and error.errno in NO_LOCKS:
                raise UserError(
                    f"{path}: its file system has no locks; keep the project on one that has"
                ) from error
            raise
        file.close()  # its holder removed or moved it; another file has the path now


def _is_at(file: IO[str], path: Path) -> bool:
    """Return whether an open file still has its path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


@contextmanager
def folder_lock(path: Path) -> Iterator[bool | None]:
    """Try to lock a folder without a file in it, until the block ends.

    Yields:
        whether the lock was free; None where the file system has no such locks, as on a network.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield try_lock_handle(folder)
    finally:
        os.close(folder)


def try_lock_handle(handle: int) -> bool | None:
    """Try to lock an open file or folder; None where the file system has no such locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True
