"""What is logged of a run, on disk until it is delivered.

A spool is a folder with a header, a file of events, one a line, the files that events speak of, and
how many events were delivered. An event is on disk before the work that it tells of goes on, so a
killed process, or a tracking server that is away, loses none.
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, Self

from ..common.files import remove_folder, write_atomic, write_json
from ..common.locks import lock, try_lock
from ..common.logging import warn

HEADER, EVENTS, DELIVERED, FILES, LOCK = "run.json", "events.jsonl", "delivered", "files", "lock"
FRESH = ".new-"  # how the name of a folder begins that is being made
SECONDS_TO_MAKE = 60  # one that is older was left by a killed process
KEPT = 16  # delivered spools of works that were cut off and may go on, those last used
Event = dict[str, Any]


class Spool:
    """The spool of one run, which this process alone writes or delivers."""

    def __init__(self, folder: Path, held: IO[str]) -> None:
        self.folder = folder
        self._lock = held
        self.header: dict[str, Any] = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        self.events = _whole_events(folder / EVENTS)
        # A machine that lost its power may have lost the last events, or what this file held.
        counted = folder / DELIVERED
        told = counted.read_text() if counted.exists() else ""
        self.delivered = min(int(told), len(self.events)) if told.isdecimal() else 0

    @classmethod
    def made(cls, folder: Path, header: dict[str, Any]) -> Self:
        """A new one; its folder must not be there."""
        fresh = folder.with_name(f"{FRESH}{uuid.uuid4().hex}")
        (fresh / FILES).mkdir(parents=True)
        held = lock(fresh / LOCK)
        write_json(fresh / HEADER, header)
        return cls(fresh.rename(folder), held)

    @classmethod
    def found(cls, folder: Path, wait: bool) -> Self | None:
        """The spool of a folder; None if there is none, or another process has it.

        Args:
            folder: of the spool.
            wait: until the other process has done.
        """
        try:
            held = lock(folder / LOCK) if wait else try_lock(folder / LOCK)
        except FileNotFoundError:
            return None
        if held is not None and not (folder / HEADER).exists():  # it was being removed
            shutil.rmtree(folder, ignore_errors=True)
            held.close()
            return None
        return cls(folder, held) if held is not None else None

    @property
    def waiting(self) -> int:
        """How many events were not delivered."""
        return len(self.events) - self.delivered

    @property
    def ended(self) -> bool:
        """Whether the last that is told is how the work ended; else its process died."""
        return bool(self.events) and self.events[-1]["kind"] == "end"

    def append(self, event: Event) -> None:
        """Add an event, with its time in milliseconds since 1970."""
        event = event | {"time": now()}
        line = json.dumps(event) + "\n"
        path = self.folder / EVENTS
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(line)
        except OSError:
            with suppress(OSError):  # half a line would spoil the next one
                os.truncate(path, size)
            raise
        self.events.append(event)

    def new_folder(self) -> Path:
        """An empty folder for what the next event speaks of, by its name, as "file"."""
        folder = self.folder / FILES / f"{len(self.events)}-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        return folder

    def file(self, event: Event) -> Path:
        """The file or folder that an event speaks of."""
        return self.folder / FILES / event["file"]

    def change_header(self, **changes: Any) -> None:
        """Write changes of the header."""
        self.header |= changes
        write_json(self.folder / HEADER, self.header)

    def advance(self, count: int) -> None:
        """Note that so many more events were delivered."""
        self._count(self.delivered + count)

    def start_over(self) -> None:
        """Deliver everything again."""
        self._count(0)

    def _count(self, delivered: int) -> None:
        write_atomic(self.folder / DELIVERED, str(delivered))
        self.delivered = delivered

    def move(self, folder: Path) -> None:
        """Give the folder another name."""
        self.folder = self.folder.rename(folder)

    def remove(self) -> None:
        """Forget everything."""
        # The header first: without it the rest is nothing.
        (self.folder / HEADER).unlink()
        remove_folder(self.folder)

    def close(self) -> None:
        """Let others have it."""
        self._lock.close()


def spools(place: Path) -> Iterator[Spool]:
    """The spools in a folder that no living process has, the oldest first."""
    folders = [path for path in place.glob("[!.]*") if path.is_dir()]
    for folder in sorted(folders, key=_last_used):
        spool = Spool.found(folder, wait=False)
        if spool is not None:
            with closing(spool):
                yield spool


def prune(place: Path, delivered: Sequence[Path]) -> None:
    """Remove delivered spools of works that may go on, all but those last used.

    And what processes left that were killed when they made one.

    Args:
        place: the folder of spools.
        delivered: those spools, the oldest first.
    """
    for folder in place.glob(f"{FRESH}*"):
        with suppress(FileNotFoundError):  # another process was quicker
            if time.time() - folder.stat().st_mtime > SECONDS_TO_MAKE:
                remove_folder(folder)
    for folder in delivered[:-KEPT]:
        spool = Spool.found(folder, wait=False)
        if spool is not None:
            with closing(spool):
                spool.remove()


def now() -> int:
    """Milliseconds since 1970, in which MLflow counts."""
    return int(time.time() * 1000)


def _last_used(folder: Path) -> float:
    try:
        return (folder / EVENTS).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _whole_events(path: Path) -> list[Event]:
    """The events of a file; a last line that was cut off when its process was killed is removed.

    So is, with a warning, what comes after a line that is damaged otherwise.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    lines = whole.splitlines(keepends=True)
    events: list[Event] = []
    for line in lines:
        try:
            events.append(json.loads(line))
        except ValueError:
            left = len(lines) - len(events)
            warn(f"{path}: {left} entries for MLflow are lost, the first of them is damaged")
            break
    good = b"".join(lines[: len(events)])
    if good != content:
        write_atomic(path, good)
    return events
