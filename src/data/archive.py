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
MAX_FILES = 1_000_000  # in an archive or a folder, and folders in it; bounds memory and time
MAX_FILE_BYTES = 512 << 20  # of one file, which is read into memory as a whole
MAX_NAME_BYTES = 255  # limit of file systems for one name
ENCRYPTED = 0x1  # bit 0 of a zip entry's general purpose flag
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# Names, in lower case, of what systems add to folders: macOS an icon and copies of its attributes,
# Windows and Synology small pictures, and all of them what was deleted or recovered.
ADDED_BY_SYSTEMS = (
    *("icon\r", "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"),
    *("$recycle.bin", "system volume information", "lost+found"),
)


@dataclass(frozen=True)
class ArchiveEntry:
    """One file of an archive or folder: its inner path, size in bytes, and a way to open it."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def list_entries(path: Path, max_bytes: int | None = None) -> list[ArchiveEntry]:
    """List the files of a zip archive or folder, sorted by name, without unpacking them.

    Every entry's name and kind is checked first, so that an archive with one unsafe entry is
    refused as a whole. Hidden files and ``ADDED_BY_SYSTEMS`` are left aside before. Where a name
    has backslashes only, as PowerShell writes them, they are slashes. A link is read as what it
    leads to in a folder, which its owner made, and refused in an archive.

    Args:
        path: a zip file or a folder.
        max_bytes: maximum size of all files when unpacked; None is no limit.

    Raises:
        UserError: for a missing or broken archive, an absolute name, ``..`` or a control character
            in a name, a link in an archive, a broken one in a folder, an entry that is encrypted or
            packed by a rare method, or too many files or bytes.
    """
    if path.is_dir():
        files = _folder_entries(path)
    elif path.is_file():
        files = _zip_entries(path)
    else:
        raise UserError(f"{path}: there is no such file or folder")
    entries = list(islice(files, MAX_FILES + 1))
    if len(entries) > MAX_FILES:
        raise _too_many_error(path)
    total = sum(entry.size for entry in entries)
    if max_bytes is not None and total > max_bytes:
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
    content = read_start(entry, entry.size + 1)
    if len(content) != entry.size:
        raise UserError(f"{entry.path} is not of the {entry.size} bytes it should have")
    return content


def read_start(entry: ArchiveEntry, size: int) -> bytes:
    """Return the first bytes of an entry's content, fewer than ``size`` where it ends before.

    Raises:
        UserError: if it is damaged or cannot be read.
    """
    try:
        with entry.open() as stream:
            return stream.read(size)
    except Exception as error:  # a damaged file may raise any error of the decompressor
        raise UserError(f"{entry.path} cannot be read: {error}") from error


def _folder_entries(root: Path) -> Iterator[ArchiveEntry]:
    """Yield the files below ``root``; a link counts as what it leads to, but loops end."""

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}") from error

    above = {str(root): [root.stat()]}  # by folder to be walked, it and the folders it lies in
    for number, (folder, folders, names) in enumerate(os.walk(root, True, fail, followlinks=True)):
        if number == MAX_FILES:
            raise _too_many_error(root)
        here = above.pop(folder)
        entered = []
        for name in folders + names:
            file = Path(folder, name)
            inner = _inner_path(file.relative_to(root).as_posix(), root)
            if inner is None:
                continue
            status = _status(file)
            if stat.S_ISREG(status.st_mode):
                yield ArchiveEntry(inner, status.st_size, lambda file=file: file.open("rb"))  # type: ignore[misc]
            elif not stat.S_ISDIR(status.st_mode):
                raise UserError(f"{str(inner)!r} in {root} is no plain file")
            elif not any(os.path.samestat(status, other) for other in here):
                above[str(file)] = [*here, status]
                entered.append(name)
        folders[:] = entered


def _status(file: Path) -> os.stat_result:
    """Return the status of a file, or of what a link leads to."""
    try:
        return file.stat()
    except OSError as error:
        if not file.is_symlink():
            raise
        raise UserError(
            f"{file} is a broken link ({error.strerror}): fetch what it leads to (`dvc checkout`, "
            "`git annex get`), or remove it"
        ) from error


def _zip_entries(path: Path) -> Iterator[ArchiveEntry]:
    """Yield the files of a zip archive, which stays open as long as an entry refers to it."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise UserError(f"{path} is not a readable zip archive: {error}") from error
    for info in archive.infolist():
        inner = _inner_path(info.filename, path)
        if inner is None:
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{str(inner)!r} in {path} is a link or no plain file")
        if kind == stat.S_IFDIR or info.filename.endswith(("/", "\\")):
            continue
        if info.flag_bits & ENCRYPTED:
            raise UserError(f"{path} is encrypted; unpack it and give the folder")
        if info.compress_type not in COMPRESSIONS:
            raise UserError(
                f"{path} is packed by a method that is not read here (number {info.compress_type}, "
                "as deflate64 of large archives from Windows); unpack it and give the folder"
            )
        yield ArchiveEntry(inner, info.file_size, lambda info=info: archive.open(info))  # type: ignore[misc]


def _inner_path(name: str, source: Path) -> PurePosixPath | None:
    """Return an entry's name as a path, or None for the root and for what is left aside.

    Raises:
        UserError: if it could leave its target folder, or if no file can have it.
    """
    # Beside a slash, a backslash is part of a letter that was decoded wrongly, or an attack.
    path = PurePosixPath(name if "/" in name else name.replace("\\", "/"))
    added = (
        part != ".." and (part.startswith(".") or part.lower() in ADDED_BY_SYSTEMS)
        for part in path.parts
    )
    if (name and path == path.parent) or any(added):
        return None
    try:
        sizes = [len(part.encode("utf-8")) for part in path.parts]
    except UnicodeEncodeError:  # a folder's name that is not UTF-8
        sizes = [MAX_NAME_BYTES + 1]
    unsafe = (
        not name
        or path.is_absolute()
        or ".." in path.parts
        or any("\\" in part for part in path.parts)
        or name[1:2] == ":"
        or any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
        or max(sizes) > MAX_NAME_BYTES
    )
    if unsafe:
        raise UserError(f"{source} holds an unsafe entry name: {name[:200]!r}")
    return path


def _too_many_error(path: Path) -> UserError:
    """Describe that an archive or folder is too large."""
    return UserError(f"{path} holds more than {MAX_FILES} files or folders; give a part of them")
