"""What one process owes another."""

import ctypes
import os
import signal
from multiprocessing import parent_process
from pathlib import Path


def end_with_parent() -> None:
    """Let the system kill this process when the one that started it ends (Linux).

    A dvc that is killed would else leave its stage at work beside that of the next dvc, and a
    search its workers. To be called early: before it, the end of the parent is seen only if this
    process was started by ``multiprocessing`` or fell to the system's first process.
    """
    PR_SET_PDEATHSIG = 1  # noqa: N806, its name in <sys/prctl.h>
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if _is_orphan():
        os.kill(os.getpid(), signal.SIGKILL)


def begin_as_worker() -> None:
    """Begin as one of a pool's processes: interrupts are left to the one that waits for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _is_orphan() -> bool:
    """Whether the process that started this one has ended already."""
    parent = parent_process()
    if parent is not None:
        return not parent.is_alive()
    if os.getppid() != 1:
        return False
    # In a container the first process may be the one that started it.
    first = Path("/proc/1/cmdline")
    return first.exists() and not any(name in first.read_bytes() for name in (b"dvc", b"python"))
