"""A folder of files that can be made again, of which those used longest ago are removed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from .errors import UserError
from .files import atomic_write, remove_stale
from .locks import lock
from .logging import logger

Content = TypeVar("Content")


class FileCache:
    """Folder of files, each named by a hash of all that its content depends on.

    Whatever is wrong with the folder costs a warning and time, but never the result.
    """

    def __init__(self, folder: Path, suffix: str, max_bytes: int) -> None:
        """Set up the cache; the folder is made by the first write.

        Args:
            folder: its folder, for files of this kind alone.
            suffix: of each file's name.
            max_bytes: of all files together; those used longest ago are removed first.
        """
        self._folder, self._suffix, self._max_bytes = folder, suffix, max_bytes

    def read(self, key: str, load: Callable[[Path], Content]) -> Content | None:
        """Return what ``load`` reads from the file of a key; None if it is missing or damaged."""
        file = self._file(key)
        try:
            content = load(file)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a damaged file makes a library raise
            reason = " ".join(str(error).split())[:200]
            logger.warning(f"{file} cannot be read and is made again: {reason}")
            return None
        with suppress(OSError):  # the file may be another user's
            file.touch()  # the time of its last use
        return content

    def write(self, key: str, save: Callable[[BinaryIO], object]) -> None:
        """Write the file of a key with ``save``, and remove those used longest ago."""
        try:
            with atomic_write(self._file(key)) as fresh, fresh.open("wb") as stream:
                save(stream)
            self._prune()
        except OSError as error:
            logger.warning(f"{self._folder}: nothing is kept there: {error.strerror}")

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Wait until no other process makes the file of a key; it waits for this one, too.

        Where locks cannot be had, each process makes the file for itself.
        """
        with ExitStack() as stack:
            with suppress(OSError, UserError):
                self._folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock(self._file(key).with_suffix(".lock")))
            yield

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}{self._suffix}"

    def _prune(self) -> None:
        remove_stale(self._folder)
        files = []
        for path in self._folder.glob(f"*{self._suffix}"):
            with suppress(FileNotFoundError):  # another process has just removed it
                files.append((path.stat(), path))
        files.sort(key=lambda item: item[0].st_mtime_ns, reverse=True)
        total = 0
        for status, path in files:
            total += status.st_size
            if total > self._max_bytes:
                path.unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
