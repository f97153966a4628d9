"""Locks between processes of one host; the system lets go of those of a process that ends."""

import fcntl
from pathlib import Path
from typing import IO


def locked(path: Path, wait: bool = False) -> IO[str] | None:
    """The lock of a file, held until it is closed or the process ends.

    Args:
        path: made if it is not there.
        wait: until another process lets go of it.

    Returns:
        the open file, or None if another process has the lock.

    Raises:
        FileNotFoundError: if its folder is not there.
    """
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        lock.close()
        return None
    except BaseException:
        lock.close()
        raise
    return lock
