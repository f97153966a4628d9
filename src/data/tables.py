"""Tables and arrays of any length, written row by row, and counts over them.

A data set of a million images has tables of hundreds of megabytes and arrays of gigabytes; nothing
here holds more than a row of them, or eight bytes a row.
"""

import csv
import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..common.files import atomic_write


@contextmanager
def atomic_table(path: Path, columns: Iterable[str]) -> "Iterator[csv.DictWriter[str]]":
    """Give a writer of rows for a CSV file that takes its place when the block ends well."""
    with (
        atomic_write(path) as fresh,
        fresh.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
        writer.writeheader()
        yield writer


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, one at a time."""
    with path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def count_rows(path: Path) -> int:
    """How many rows a CSV file has, its header not counted."""
    return sum(1 for _ in rows_of(path))


class ArrayWriter:
    """An array file (.npy) that grows by one row at a time.

    The header states the number of rows, so it is written again at the end; NumPy leaves room for
    that.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = 0
        self._row_shape = row_shape
        self._stream = path.open("wb")
        self._write_header()
        self._start = self._stream.tell()

    def append(self, row: NDArray[np.uint8]) -> None:
        """Add one row, uint8 of the row's shape."""
        assert row.shape == self._row_shape
        self._stream.write(np.ascontiguousarray(row).data)
        self.rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stream:
            if error is None:
                self._stream.seek(0)
                self._write_header()
                assert self._stream.tell() == self._start
                self._stream.flush()
                os.fsync(self._stream.fileno())

    def _write_header(self) -> None:
        header: Mapping[str, Any] = {
            "descr": "|u1",
            "fortran_order": False,
            "shape": (self.rows, *self._row_shape),
        }
        np.lib.format.write_array_header_1_0(self._stream, dict(header))


class Fingerprints:
    """Eight bytes of a hash for each of many texts, to count those that are equal.

    Two different texts of a million have the same with a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._values = array("Q")

    def add(self, text: str) -> None:
        """One more text."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8)
        self._values.append(int.from_bytes(digest.digest(), "little"))

    def distinct(self) -> int:
        """How many different texts there are."""
        return len(np.unique(self._array()))

    def repeated(self) -> int:
        """How many texts are there a second time or more."""
        return len(self._values) - self.distinct()

    def among(self, other: Self) -> int:
        """How many texts, repeated ones included, are also in ``other``."""
        return int(np.isin(self._array(), np.unique(other._array())).sum())

    def distinct_among(self, other: Self) -> int:
        """How many different texts are also in ``other``."""
        return len(np.intersect1d(self._array(), other._array()))

    def _array(self) -> NDArray[np.uint64]:
        return np.frombuffer(self._values, dtype=np.uint64) if self._values else np.empty(0, "u8")
