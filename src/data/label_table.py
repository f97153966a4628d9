"""A CSV table of somebody's images: what it states of each, and the files that its rows mean."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..common.errors import UserError
from ..config.data import TableSettings
from .archive import ArchiveEntry

COLUMN = re.compile(r"\{([^{}]*)\}")  # in the template of an image's path
DELIMITERS = (",", ";", "\t")
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class TableRow:
    """What a table states of an image; an empty text is not stated."""

    labels: tuple[str, ...]
    patient: str
    split: str


def decode_text(content: bytes, name: str) -> str:
    """Decode a text: UTF-8 or UTF-16 with a byte order mark, UTF-8 without one, else Windows-1252.

    Raises:
        UserError: if it is none of these; the message begins with ``name``.
    """
    encodings = ("utf-16",) if content.startswith(UTF16_MARKS) else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise UserError(f"{name} is no file of text; save it as CSV or text in UTF-8")


def read_table(text: str, name: str, settings: TableSettings) -> dict[str, TableRow]:
    """Read a table, by the path of the image that each row means.

    Args:
        text: of the file, with columns separated by commas, semicolons or tabs.
        name: of the file, for errors.
        settings: the columns' names.

    Raises:
        UserError: if it is no such table, lacks a column, has a row with too few values, or rows of
            one image that disagree.
    """
    rows: dict[str, TableRow] = {}
    for line, values in _read_lines(text, name, settings):
        image = _fill(settings.image, values)
        cell = values[settings.label]
        parts = cell.split(settings.label_separator) if settings.label_separator else [cell]
        row = TableRow(
            labels=tuple(sorted({part.strip() for part in parts} - {""})),
            patient=values.get(settings.patient, ""),
            split=values.get(settings.split, ""),
        )
        if rows.setdefault(image, row) != row:
            raise UserError(
                f"data.table.path: {name}, line {line}: what it states of {image} is not what an "
                f"earlier line does ({_shown(row)}; {_shown(rows[image])})"
            )
    return rows


def match_files(
    images: Sequence[str], entries: Sequence[ArchiveEntry], key: str
) -> dict[str, ArchiveEntry]:
    """Return the files that a table's image paths mean, without those that are not there.

    A table's path means the file whose path ends with it, folder by folder, or else the one with
    whose path it ends. So neither has to begin at the same folder.

    Args:
        images: the paths.
        entries: the files.
        key: of the parameter, for errors.

    Raises:
        UserError: if a path means several files, or if several paths mean one file.
    """
    whole = {_parts(entry.path.as_posix()): entry for entry in entries}
    by_end: dict[int, dict[tuple[str, ...], list[ArchiveEntry]]] = {}  # by length, then end
    found: dict[str, ArchiveEntry] = {}
    meant_by: dict[PurePosixPath, str] = {}
    for image in images:
        parts = _parts(image)
        if len(parts) not in by_end:
            ends = by_end.setdefault(len(parts), {})
            for file, entry in whole.items():
                ends.setdefault(file[-len(parts) :], []).append(entry)
        files = by_end[len(parts)].get(parts, [])
        if not files:
            files = [whole[end] for k in range(1, len(parts)) if (end := parts[k:]) in whole][:1]
        if len(files) > 1:
            raise UserError(
                f"{key}: {image} fits {files[0].path} and {files[1].path}; name the folders too"
            )
        if files:
            found[image] = files[0]
            other = meant_by.setdefault(files[0].path, image)
            if other != image:
                raise UserError(f"{key}: {image} and {other} both mean {files[0].path}")
    return found


def _read_lines(
    text: str, name: str, settings: TableSettings
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield the number of each line and its values by column."""
    needed = [*COLUMN.findall(settings.image), settings.label]
    needed += [column for column in (settings.patient, settings.split) if column]
    columns: list[str] = []
    try:
        for delimiter in DELIMITERS:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            header = [column.strip() for column in next(reader, [])]
            columns = columns or header
            if set(needed) <= set(header):
                break
        else:
            missing = ", ".join(column for column in needed if column not in columns)
            raise UserError(f"data.table: {name} has no column {missing}; it has {columns}")
        for column in needed:
            if header.count(column) > 1:
                raise UserError(f"data.table: {name} has several columns {column}")
        for values in reader:
            if len(values) not in (0, len(header)):
                raise UserError(
                    f"data.table.path: {name}, line {reader.line_num}: {len(values)} values in "
                    f"{len(header)} columns"
                )
            if values:
                stripped = (value.strip() for value in values)
                yield reader.line_num, dict(zip(header, stripped, strict=True))
    except csv.Error as error:
        raise UserError(f"data.table.path: {name}: it cannot be read as CSV: {error}") from error


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Put a row's values into a template that has columns in braces."""
    return COLUMN.sub(lambda found: values[found[1]], template)


def _parts(path: str) -> tuple[str, ...]:
    """Return the names in a path, with slashes or backslashes, letters with accents as one."""
    normal = unicodedata.normalize("NFC", path.replace("\\", "/"))
    return tuple(part for part in normal.split("/") if part not in ("", "."))


def _shown(row: TableRow) -> str:
    """Format what a row states."""
    stated = [" and ".join(row.labels) or "no label", row.patient, row.split]
    return ", ".join(text for text in stated if text)
