"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeVar

from .logging import logger, open_bars

T = TypeVar("T")

MIN_SCALED_TOTAL = 100_000  # whole totals from here on are shown as 100k; fractions (MB) always
SECONDS_BETWEEN_LINES = 10.0  # at first; later a twentieth of the time that has passed
# Else tqdm takes a lock of the system's, for processes that share a terminal line; none do here.
_BAR_LOCK = threading.RLock()


class Progress:
    """Progress of one piece of work: its count, rate and time left.

    Shown as a bar on stderr if that is a terminal, else as lines on stdout.
    """

    def __init__(self, label: str, total: float, unit: str) -> None:
        self.total = total  # in ``unit``; 0 if unknown
        self.note = ""  # shown behind the numbers
        self._resumed = 0.0
        self._label, self._unit = label, unit
        self._bar = _open_bar(label, total, unit) if sys.stderr.isatty() else None
        self._done = 0.0
        self._start = self._last_line = time.monotonic()

    def resume(self, amount: float) -> None:
        """Count ``amount`` as done by an earlier process; the rate leaves it out."""
        self._resumed += amount
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
        is_due = now - self._last_line >= max(SECONDS_BETWEEN_LINES, elapsed / 20)
        if is_due and self._done:
            self._last_line = now
            logger.info(self._line(self._done / elapsed))

    def _line(self, rate: float) -> str:
        done = self._resumed + self._done
        if self.total:
            left = duration(max(self.total - done, 0) / rate)
            line = f"{done:.6g} of {self.total:.6g} {self._unit}, {rate:.3g} a second, {left} to go"
        else:
            line = f"{done:.6g} {self._unit}, {rate:.3g} a second"
        return f"{self._label}: {line}" + (f", {self.note}" if self.note else "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        if self._bar is not None:
            self._bar.close()
            open_bars.remove(self._bar)
        elif error is None:
            took = duration(time.monotonic() - self._start)
            logger.info(f"{self._label}: {self._done:.6g} {self._unit} in {took}")


def _open_bar(label: str, total: float, unit: str) -> Any:
    """Open a bar on the terminal."""
    from tqdm import tqdm  # only here, since commands without a terminal need not wait for it

    tqdm.set_lock(_BAR_LOCK)
    bar = tqdm(
        desc=label,
        total=total or None,
        unit=f" {unit}",
        dynamic_ncols=True,
        unit_scale=not (isinstance(total, int) and 0 < total < MIN_SCALED_TOTAL),
    )
    open_bars.append(bar)
    return bar


def progress(items: Iterable[T], label: str, total: int, unit: str) -> Iterator[T]:
    """Yield ``items`` while showing their progress."""
    with Progress(label, total, unit) as shown:
        for item in items:
            yield item
            shown.advance()


def duration(seconds: float) -> str:
    """Format a time span for people: ``8.2 s``, ``3 min 05 s``, ``31 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
