"""What one process owes another."""

import ctypes
import signal


def end_with_parent() -> None:
    """Let the system kill this process when the one that started it ends (Linux).

    A dvc that is killed would else leave its stage at work beside that of the next dvc, and a
    search its workers.
    """
    PR_SET_PDEATHSIG = 1  # noqa: N806, its name in <sys/prctl.h>
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
