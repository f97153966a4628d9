"""Outboxes: folders that keep what runs log until it is delivered to MLflow.

An outbox holds a header, a file of events (one JSON object a line), the files that events refer to,
and the number of events delivered so far. An event is on disk before the work goes on, so neither a
killed process nor an absent tracking server loses one.
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

from ..common.files import remove_folder, write_file, write_json
from ..common.locks import lock, try_lock
from ..common.logging import logger
from .address import TRACKING_FOLDER, store_key

HEADER, EVENTS, DELIVERED, FILES, LOCK = "run.json", "events.jsonl", "delivered", "files", "lock"
UNFINISHED = ".new-"  # prefix of the folder's name while an outbox is being created
CREATION_TIMEOUT = 60  # seconds; an older unfinished folder was left by a killed process
MAX_KEPT = 16  # delivered outboxes kept for interrupted work that may be resumed, newest first
Event = dict[str, Any]


class Outbox:
    """Outbox of one run, locked for this process, which alone writes or delivers it."""

    def __init__(self, folder: Path, lock_file: IO[str]) -> None:
        self.folder = folder
        self._lock_file = lock_file
        self.header: dict[str, Any] = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        self.events = _read_events(folder / EVENTS)
        # After a power cut the last events, or the content of this file, may be lost.
        file = folder / DELIVERED
        text = file.read_text() if file.exists() else ""
        self.delivered = min(int(text), len(self.events)) if text.isdecimal() else 0

    @classmethod
    def create(cls, folder: Path, header: dict[str, Any]) -> Self:
        """Create an outbox at ``folder``, which must not exist."""
        unfinished = folder.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        (unfinished / FILES).mkdir(parents=True)
        lock_file = lock(unfinished / LOCK)
        write_json(unfinished / HEADER, header)
        return cls(unfinished.rename(folder), lock_file)

    @classmethod
    def open(cls, folder: Path, wait: bool) -> Self | None:
        """Open the outbox at ``folder``.

        Args:
            folder: of the outbox.
            wait: whether to wait until no other process holds it.

        Returns:
            the outbox; None if there is none, or if another process holds it and ``wait`` is false.
        """
        try:
            lock_file = lock(folder / LOCK) if wait else try_lock(folder / LOCK)
        except FileNotFoundError:
            return None
        if lock_file is None:
            return None
        if not (folder / HEADER).exists():  # the process that removed it was killed
            shutil.rmtree(folder, ignore_errors=True)
            lock_file.close()
            return None
        outbox = cls(folder, lock_file)
        # Earlier versions wrote another key, which may hold a part of a password.
        key = store_key(folder.absolute().parents[1], outbox.header["store"])
        if outbox.header["store"] != key:
            outbox.update_header(store=key)
        return outbox

    @property
    def pending(self) -> int:
        """Number of events that are not delivered."""
        return len(self.events) - self.delivered

    @property
    def has_ended(self) -> bool:
        """Whether the last event states how the work ended; else its process was killed."""
        return bool(self.events) and self.events[-1]["kind"] == "end"

    def append(self, event: Event) -> None:
        """Add an event, with the time in milliseconds since 1970."""
        event = event | {"time": now_ms()}
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

    def new_attachment(self) -> Path:
        """Create an empty folder for the files of the next event, which names it as "file"."""
        folder = self.folder / FILES / f"{len(self.events)}-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        return folder

    def attachment(self, event: Event) -> Path:
        """Return the folder with the files of an event."""
        return self.folder / FILES / event["file"]

    def update_header(self, **changes: Any) -> None:
        """Change entries of the header, on disk too."""
        self.header |= changes
        write_json(self.folder / HEADER, self.header)

    def set_delivered(self, count: int) -> None:
        """Write down how many events are delivered."""
        write_file(self.folder / DELIVERED, str(count))
        self.delivered = count

    def rename(self, folder: Path) -> None:
        """Rename the outbox's folder."""
        self.folder = self.folder.rename(folder)

    def remove(self) -> None:
        """Delete the outbox."""
        # The header first: a folder without it counts as removed.
        (self.folder / HEADER).unlink()
        remove_folder(self.folder)

    def close(self) -> None:
        """Release the lock, so that other processes can open the outbox."""
        self._lock_file.close()


def idle_outboxes(root: Path) -> Iterator[Outbox]:
    """Open each outbox of a project that no living process holds, the least recently used first."""
    folders = [path for path in (root / TRACKING_FOLDER).glob("[!.]*") if path.is_dir()]
    for folder in sorted(folders, key=_last_used):
        outbox = Outbox.open(folder, wait=False)
        if outbox is not None:
            with closing(outbox):
                yield outbox


def count_waiting(root: Path) -> int:
    """Count the runs of ended processes that wait for their delivery."""
    return sum(1 for outbox in idle_outboxes(root) if outbox.pending or not outbox.has_ended)


def prune_outboxes(root: Path, delivered: Sequence[Path]) -> None:
    """Remove outboxes that are no longer needed.

    These are the delivered ones of resumable work, but for the MAX_KEPT used last, and folders of
    processes that were killed while they created an outbox.

    Args:
        root: the project's folder.
        delivered: folders of delivered outboxes of resumable work, the least recently used first.
    """
    for folder in (root / TRACKING_FOLDER).glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError):  # another process may remove it first
            if time.time() - folder.stat().st_mtime > CREATION_TIMEOUT:
                remove_folder(folder)
    for folder in delivered[:-MAX_KEPT]:
        outbox = Outbox.open(folder, wait=False)
        if outbox is not None:
            with closing(outbox):
                outbox.remove()


def now_ms() -> int:
    """Return the time in milliseconds since 1970, MLflow's unit."""
    return int(time.time() * 1000)


def _last_used(folder: Path) -> float:
    """Return when an event was last added, in seconds since 1970; 0 if none was."""
    try:
        return (folder / EVENTS).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read_events(path: Path) -> list[Event]:
    """Read the events of a file, and cut the file behind the last good one.

    A last line without its end is dropped: its process was killed while it wrote. If a line is
    damaged otherwise, it and all that follow are dropped with a warning.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    events: list[Event] = []
    for line in lines:
        try:
            events.append(json.loads(line))
        except ValueError:
            lost = len(lines) - len(events)
            logger.warning(
                f"{path}: {lost} entries for MLflow are lost, the first of them is damaged"
            )
            break
    good = b"".join(lines[: len(events)])
    if good != content:
        write_file(path, good)
    return events
