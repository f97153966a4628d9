"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

from .logging import say

T = TypeVar("T")
# Else tqdm takes a lock of the system's, for processes that share a terminal line; none do here.
tqdm.set_lock(threading.RLock())

SCALED = 100_000  # from here on 100k is shown; megabytes are fractions, and scaled too
SECONDS_BETWEEN_LINES = 10.0  # at first; later a twentieth of the time that has passed


class Progress:
    """Shows how far, how fast and how long to go, as a bar on stderr or as lines on stdout."""

    def __init__(self, label: str, total: float, unit: str) -> None:
        self.total = total  # in ``unit``; 0 if unknown
        self.note = ""  # what else to show
        self._earlier = 0.0
        self._label, self._unit = label, unit
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                desc=label,
                total=total or None,
                unit=f" {unit}",
                dynamic_ncols=True,
                unit_scale=not (isinstance(total, int) and 0 < total < SCALED),
            )
        self._done = 0.0
        self._start = self._last = time.monotonic()

    def resume(self, amount: float) -> None:
        """Count ``amount`` as done before; the rate does not count it."""
        self._earlier += amount
        if self._bar is not None:
            self._bar.initial = self._bar.n = amount

    def advance(self, amount: float = 1) -> None:
        """Count ``amount`` more as done."""
        self._done += amount
        if self._bar is not None:
            self._bar.total = self.total or None
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(amount)
            return
        now = time.monotonic()
        elapsed = now - self._start
        if now - self._last < max(SECONDS_BETWEEN_LINES, elapsed / 20):
            return
        if not self._done:
            return
        self._last = now
        rate = self._done / elapsed
        done = self._earlier + self._done
        line = f"{self._label}: {done:.6g}"
        if self.total:
            left = max(self.total - done, 0) / rate
            line += (
                f" of {self.total:.6g} {self._unit}, {rate:.3g} a second, {duration(left)} to go"
            )
        else:
            line += f" {self._unit}, {rate:.3g} a second"
        say(f"{line}, {self.note}" if self.note else line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif error is None:
            took = duration(time.monotonic() - self._start)
            say(f"{self._label}: {self._done:.6g} {self._unit} in {took}")


def progress(items: Iterable[T], label: str, total: int, unit: str) -> Iterator[T]:
    """Yield ``items`` while showing their progress."""
    with Progress(label, total, unit) as shown:
        for item in items:
            yield item
            shown.advance()


def duration(seconds: float) -> str:
    """A span of time as a person says it: ``8.2 s``, ``3 min 05 s``, ``31 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
