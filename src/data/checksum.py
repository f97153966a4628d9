"""Checksum of the archive or folder of real images, by which changed content is seen."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import UserError
from ..common.files import sha256_of_file, sha256_of_stream
from .archive import list_entries


def source_checksum(path: Path, *beside: Path) -> str:
    """Return the SHA-256 of an archive's bytes, or of a folder's files, in hexadecimal.

    Of a folder count the sorted paths and contents of the files that ``list_entries`` lists: hidden
    ones and those that operating systems add come and go by themselves. With files beside
    the images, such as a table, it is the SHA-256 of all checksums, one a line.

    Raises:
        UserError: if ``path`` or another file does not exist, or as ``list_entries``.
    """
    if beside:
        for file in beside:
            if not file.is_file():
                raise UserError(f"{file}: there is no such file")
        parts = [source_checksum(path), *map(sha256_of_file, beside)]
        return hashlib.sha256("".join(f"{part}\n" for part in parts).encode("ascii")).hexdigest()
    if path.is_file():
        return sha256_of_file(path)
    digest = hashlib.sha256()
    for entry in list_entries(path):
        with entry.open() as stream:
            content = sha256_of_stream(stream)
        digest.update(_line(entry.path.as_posix(), content))
    return digest.hexdigest()


def check_source(path: Path, expected: str, beside: Sequence[Path] = ()) -> None:
    """Refuse an archive or folder whose checksum, with files beside it, is not ``expected``.

    Raises:
        UserError: if it is not; the message states the checksum, and why it differs if the rule
            for it has changed since.
    """
    checksum = source_checksum(path, *beside)
    if checksum == expected:
        return
    if not beside and path.is_dir() and _former_checksum(path) == expected:
        raise UserError(
            f"data.sha256: {path} is unchanged, but the rule has changed: hidden files and those "
            "of the operating system no longer count, and links to folders are followed; set "
            f"data.sha256 to {checksum}"
        )
    images = " with ".join(map(str, (path, *beside)))
    raise UserError(
        f"data.sha256: {images} has the checksum {checksum}, not {expected}; set data.sha256 to "
        "the former if the change is wanted"
    )


def _former_checksum(folder: Path) -> str:
    """Return the checksum of all files of a folder, hidden ones too, as version 0.1.0 took it."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*"), key=lambda file: file.relative_to(folder).as_posix()):
        if file.is_file():
            digest.update(_line(file.relative_to(folder).as_posix(), sha256_of_file(file)))
    return digest.hexdigest()


def _line(name: str, checksum: str) -> bytes:
    """Return what a file adds to a folder's checksum."""
    return name.encode("utf-8", "surrogateescape") + b"\0" + checksum.encode("ascii") + b"\n"
