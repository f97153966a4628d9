"""Safe reader of the files in a zip archive or a folder."""

import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO

from ..common.errors import UserError

GIB = 1 << 30
MAX_FILES = 1_000_000  # in an archive or a folder; bounds the memory of their list
MAX_FILE_BYTES = 512 << 20  # of one file, which is read into memory as a whole
MAX_NAME_BYTES = 255  # limit of file systems for one name
ENCRYPTED = 0x1  # bit 0 of a zip entry's general purpose flag


@dataclass(frozen=True)
class ArchiveEntry:
    """One file of an archive or folder: its inner path, size in bytes, and a way to open it."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def list_entries(path: Path, max_bytes: int) -> list[ArchiveEntry]:
    """List the files of a zip archive or folder, sorted by name, without unpacking them.

    Every entry's name and kind is checked first, so that an archive with one unsafe entry is
    refused as a whole.

    Args:
        path: a zip file or a folder.
        max_bytes: maximum size of all files when unpacked.

    Raises:
        UserError: for a missing or broken archive, an absolute name, ``..``, a backslash or
            control character in a name, a link, an encrypted entry, or too many files or bytes.
    """
    if path.is_dir():
        files = _folder_entries(path)
    elif path.is_file():
        files = _zip_entries(path)
    else:
        raise UserError(f"{path}: there is no such file or folder")
    entries = list(islice(files, MAX_FILES + 1))
    if len(entries) > MAX_FILES:
        raise UserError(f"{path} holds more than {MAX_FILES} files; give a part of them")
    total = sum(entry.size for entry in entries)
    if total > max_bytes:
        raise UserError(
            f"{path} takes {total / GIB:.2f} GiB when unpacked, more than the "
            f"{max_bytes / GIB:.2f} that are allowed (data.max_unpacked_gib)"
        )
    return sorted(entries, key=lambda entry: entry.path.as_posix())


def read_entry(entry: ArchiveEntry) -> bytes:
    """Return an entry's content, which must have the size that the archive states.

    Raises:
        UserError: if it is damaged, longer than stated (as in a zip bomb), cannot be read, or is
            larger than ``MAX_FILE_BYTES``.
    """
    if entry.size > MAX_FILE_BYTES:
        raise UserError(
            f"{entry.path} is of {entry.size / GIB:.2f} GiB, more than an image takes; leave it out"
        )
    try:
        with entry.open() as stream:
            content = stream.read(entry.size + 1)
    except Exception as error:  # a damaged file may raise any error of the decompressor
        raise UserError(f"{entry.path} cannot be read: {error}") from error
    if len(content) != entry.size:
        raise UserError(f"{entry.path} is not of the {entry.size} bytes it should have")
    return content


def _folder_entries(root: Path) -> Iterator[ArchiveEntry]:
    """Yield the regular files below ``root``; links are refused, as in a zip archive."""

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}") from error

    for folder, folders, names in os.walk(root, onerror=fail):
        for name in folders + names:
            file = Path(folder, name)
            inner = PurePosixPath(file.relative_to(root).as_posix())
            _check_name(inner.as_posix(), root)
            status = file.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{str(inner)!r} in {root} is a link or no plain file")
            yield ArchiveEntry(inner, status.st_size, lambda file=file: file.open("rb"))  # type: ignore[misc]


def _zip_entries(path: Path) -> Iterator[ArchiveEntry]:
    """Yield the files of a zip archive, which stays open as long as an entry refers to it."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise UserError(f"{path} is not a readable zip archive: {error}") from error
    for info in archive.infolist():
        _check_name(info.filename, path)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{info.filename!r} in {path} is a link or no plain file")
        if info.is_dir():
            continue
        if info.flag_bits & ENCRYPTED:
            raise UserError(f"{path} is encrypted; unpack it and give the folder")
        yield ArchiveEntry(
            PurePosixPath(info.filename),
            info.file_size,
            lambda info=info: archive.open(info),  # type: ignore[misc]
        )


def is_hidden(path: PurePosixPath) -> bool:
    """Return whether an operating system hides the file, or added it, as macOS does in zips."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _check_name(name: str, source: Path) -> None:
    """Refuse a name that could leave its target folder or that no file can have."""
    parts = PurePosixPath(name).parts
    try:
        sizes = [len(part.encode("utf-8")) for part in parts]
    except UnicodeEncodeError:  # a folder's name that is not UTF-8
        sizes = [MAX_NAME_BYTES + 1]
    unsafe = (
        not parts
        or name.startswith("/")
        or "\\" in name
        or ".." in parts
        or (len(name) > 1 and name[1] == ":")
        or any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
        or max(sizes) > MAX_NAME_BYTES
    )
    if unsafe:
        raise UserError(f"{source} holds an unsafe entry name: {name[:200]!r}")
