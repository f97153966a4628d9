"""Atomic writes of files and folders, and SHA-256 checksums."""

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .locks import folder_lock, try_lock_handle

if TYPE_CHECKING:  # commands that only read or write text start without NumPy
    from numpy.typing import NDArray

BLOCK = 1 << 20  # bytes read at a time when hashing


def write_file(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` atomically: a reader sees the old file or the new one.

    Text is encoded as UTF-8 and keeps its line ends. Missing parent folders are created.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_write(path) as fresh:
        fresh.write_bytes(data)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield an empty file beside ``path`` that replaces it when the block succeeds.

    If the block fails, the new file is removed. A file that a killed process left behind is
    removed by the next call; a file that another process is writing is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}-new-"
    remove_stale(path.parent, glob.escape(prefix) + "*")
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
        try_lock_handle(handle)
        if os.fstat(handle).st_nlink:  # else another process removed it before it was locked
            break
        os.close(handle)
    fresh = Path(name)
    try:
        yield fresh
        with fresh.open("rb") as stream:
            os.fsync(stream.fileno())
        fresh.chmod(0o666 & ~_umask())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def remove_stale(folder: Path, pattern: str = ".*-new-*") -> None:
    """Remove the files that match ``pattern`` and that no living process is writing.

    Where the file system has no locks, all of them are kept.
    """
    for stale in folder.glob(pattern):
        with suppress(OSError), stale.open("rb") as file:  # another process may be faster
            if try_lock_handle(file.fileno()):
                stale.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with a final newline; NaN and infinity are refused."""
    write_file(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` that replaces it when the block succeeds.

    If the block fails, the folder is removed and ``path`` stays as it was. A folder that a killed
    process left behind is removed by the next call. A folder that another process is writing is
    kept, and so is every one where the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}-new-"
    for stale in path.parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(FileNotFoundError), folder_lock(stale) as is_free:
            if is_free:
                remove_folder(stale)
    with ExitStack() as stack:
        while True:
            fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix))
            with suppress(FileNotFoundError):  # another process removed it before it was locked
                stack.enter_context(folder_lock(fresh))
                fresh.chmod(0o777 & ~_umask())
                break
        try:
            yield fresh
            if path.exists():
                shutil.rmtree(path)
            fresh.replace(path)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


def remove_folder(path: Path) -> None:
    """Remove a folder, except for files that another process adds meanwhile."""
    try:
        shutil.rmtree(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in lower-case hexadecimal."""
    with path.open("rb") as stream:
        return sha256_of_stream(stream)


def sha256_of_stream(stream: IO[bytes]) -> str:
    """Return the SHA-256 of the bytes that a stream still has, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def sha256_of_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the bytes of several files in order, in lower-case hexadecimal."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def sha256_of_array(array: "NDArray[Any]") -> str:
    """Return the SHA-256 of an array's shape, dtype and values, in lower-case hexadecimal."""
    import numpy as np

    digest = hashlib.sha256(f"{array.shape} {array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def expand_user(path: str) -> Path:
    """Expand ``~`` in a user's path; an unknown home folder is left as it is."""
    with suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
