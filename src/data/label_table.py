"""A table of somebody's images, CSV or Parquet: what it states of each, and the files it means."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

from ..common.errors import UserError
from ..config.data import TableSettings
from .archive import ArchiveEntry

COLUMN = re.compile(r"\{([^{}]*)\}")  # in the template of an image's path
DELIMITERS = (",", ";", "\t")
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
PARQUET_MARK = b"PAR1"  # at the head of each such file
# Where a row stands, its values by column, and the content of its cell of labels.
Rows = Iterator[tuple[str, Mapping[str, str], Iterable[str]]]


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


def read_table(content: bytes, name: str, settings: TableSettings) -> dict[str, TableRow]:
    """Read a table, by the path of the image that each row means.

    Args:
        content: of a Parquet file, or of a text with columns separated by commas, semicolons or
            tabs.
        name: of the file, for errors.
        settings: the columns' names.

    Raises:
        UserError: if it is no such table, lacks a column, has a row with too few values, or rows of
            one image that disagree.
    """
    read = _parquet_rows if content.startswith(PARQUET_MARK) else _csv_rows
    rows: dict[str, TableRow] = {}
    for place, values, labels in read(content, name, settings):
        image = _fill(settings.image, values)
        separator = settings.label_separator
        parts = chain.from_iterable(
            label.split(separator) if separator else [label] for label in labels
        )
        row = TableRow(
            labels=tuple(sorted({part.strip() for part in parts} - {""})),
            patient=values.get(settings.patient, ""),
            split=values.get(settings.split, ""),
        )
        if rows.setdefault(image, row) != row:
            raise UserError(
                f"data.table.path: {name}, {place}: what it states of {image} is not what an "
                f"earlier one does ({_shown(row)}; {_shown(rows[image])})"
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


def _csv_rows(content: bytes, name: str, settings: TableSettings) -> Rows:
    """Read the rows of a text."""
    text = decode_text(content, f"data.table.path: {name}")
    needed = _needed_columns(settings)
    columns: list[str] = []
    try:
        for delimiter in DELIMITERS:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            header = [column.strip() for column in next(reader, [])]
            columns = columns or header
            if set(needed) <= set(header):
                columns = header
                break
        _check_columns(columns, needed, name)
        for values in reader:
            if len(values) not in (0, len(header)):
                raise UserError(
                    f"data.table.path: {name}, line {reader.line_num}: {len(values)} values in "
                    f"{len(header)} columns"
                )
            if values:
                stripped = (value.strip() for value in values)
                row = dict(zip(header, stripped, strict=True))
                yield f"line {reader.line_num}", row, [row[settings.label]]
    except csv.Error as error:
        raise UserError(f"data.table.path: {name}: it cannot be read as CSV: {error}") from error


def _parquet_rows(content: bytes, name: str, settings: TableSettings) -> Rows:
    """Read the rows of a Parquet file, whose values become the texts that CSV would have.

    Not by pandas, where integers with missing values are floats and some columns an index.
    """
    import pyarrow as pa  # imported here, since few tables need it
    from pyarrow.parquet import ParquetFile

    needed = _needed_columns(settings)
    try:
        file = ParquetFile(io.BytesIO(content))
        fields = {field.name.strip(): field for field in file.schema_arrow}
        _check_columns([column.strip() for column in file.schema_arrow.names], needed, name)
        for column in needed:
            kind = fields[column].type
            if column == settings.label:  # one label, or a list of them
                kind = getattr(kind, "value_type", kind)
            if pa.types.is_nested(kind):
                raise UserError(
                    f"data.table: {name}, column {column}: its values are of type {kind}"
                )
        names = [fields[column].name for column in needed]
        rows = chain.from_iterable(
            zip(*(batch.column(name).to_pylist() for name in names), strict=True)
            for batch in file.iter_batches(columns=names)
        )
        for number, row in enumerate(rows, 1):
            cells = dict(zip(needed, row, strict=True))
            cell = cells[settings.label]
            labels = cell if isinstance(cell, list) else [cell]
            values = {column: _as_text(value) for column, value in cells.items()}
            yield f"row {number}", values, map(_as_text, labels)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"data.table.path: {name}: it cannot be read as Parquet: {reason}"
        ) from error


def _as_text(value: object) -> str:
    """Return a value as CSV has it: none as an empty text, whole numbers without a point."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def _needed_columns(settings: TableSettings) -> list[str]:
    """Return the columns that the settings name."""
    optional = [column for column in (settings.patient, settings.split) if column]
    return list(dict.fromkeys([*COLUMN.findall(settings.image), settings.label, *optional]))


def _check_columns(columns: Sequence[str], needed: Sequence[str], name: str) -> None:
    """Refuse a table without a column that is needed, or with several of that name."""
    if missing := ", ".join(column for column in needed if column not in columns):
        raise UserError(f"data.table: {name} has no column {missing}; it has {list(columns)}")
    for column in needed:
        if columns.count(column) > 1:
            raise UserError(f"data.table: {name} has several columns {column}")


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
