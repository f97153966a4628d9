"""Pools of processes or threads, signals, and processes that end with their parent."""

import ctypes
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from itertools import islice
from multiprocessing import parent_process
from pathlib import Path
from types import FrameType
from typing import TypeVar

from .logging import configure_logging

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, instead of ending at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """``work`` of each item, in order; items are taken as results are used.

    ``Executor.map`` would take all items at once, and keep the results that wait to be used.

    Args:
        pool: does the work.
        work: what to do.
        items: what to do it with.
        ahead: most items that are at work or done and not yet used.
    """
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of ``size``, the last one shorter."""
    source = iter(items)
    while part := list(islice(source, size)):
        yield part


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


def init_worker() -> None:
    """Begin as one of a pool's processes: interrupts are left to the one that waits for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging()
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
