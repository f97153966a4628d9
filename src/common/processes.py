"""Ordered maps over pools, stop signals, and processes that end with their parent."""

import ctypes
import math
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import FrameType
from typing import TypeVar

from .errors import UserError
from .logging import configure_logging

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the yielded list, instead of ending at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def process_pool(
    workers: int, initializer: Callable[..., None], arguments: tuple[object, ...] = ()
) -> ProcessPoolExecutor:
    """Make a pool of new processes; forks would inherit torch's threads in an unusable state.

    Args:
        workers: number of processes.
        initializer: called in each; it calls ``init_worker``.
        arguments: of the initializer.

    Raises:
        UserError: if the system has no shared memory for their locks.
    """
    try:
        return ProcessPoolExecutor(workers, get_context("spawn"), initializer, arguments)
    except OSError as error:
        raise UserError(
            f"several processes cannot share locks ({error.strerror}): give this machine or "
            "container a /dev/shm that can be written"
        ) from error


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Apply ``work`` to items in a pool and yield the results in order.

    ``Executor.map`` would submit all items at once and hold every result that is not used yet.

    Args:
        pool: the executor of processes or threads.
        work: the function to apply.
        items: its arguments, taken as results are used.
        ahead: maximum of items that are submitted and whose results are not used yet.
    """
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of ``size``; the last list may be shorter."""
    source = iter(items)
    while part := list(islice(source, size)):
        yield part


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends (Linux).

    Otherwise a killed dvc leaves its stage running beside the next dvc's, and a killed search its
    workers. Call it early: a parent that ended before is noticed only if ``multiprocessing``
    started this process, or if the system's first process has adopted it.
    """
    PR_SET_PDEATHSIG = 1  # noqa: N806, its name in <sys/prctl.h>
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if _is_orphan():
        os.kill(os.getpid(), signal.SIGKILL)


def init_worker() -> None:
    """Prepare a pool's process: its messages are printed, Ctrl-C is left to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging()
    end_with_parent()


def _is_orphan() -> bool:
    """Return whether this process's parent has ended."""
    parent = parent_process()
    if parent is not None:
        return not parent.is_alive()
    if os.getppid() != 1:
        return False
    # In a container the first process may be the one that started it.
    first = Path("/proc/1/cmdline")
    return first.exists() and not any(name in first.read_bytes() for name in (b"dvc", b"python"))


def available_cores() -> int:
    """Return the cores that this process may use: its affinity, within its container's quota."""
    cores = len(os.sched_getaffinity(0))
    quota = _cpu_quota(Path("/sys/fs/cgroup"))
    return cores if quota is None else max(min(cores, math.floor(quota)), 1)


def _cpu_quota(root: Path) -> float | None:
    """Read the CPU quota of a container's control group, in cores; None if there is none."""
    with suppress(OSError, ValueError):  # version 2: "max 100000" or "150000 100000"
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):  # version 1: -1 is none
        quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    return None
