"""CSV tables and array files that are written row by row, and counts of their texts.

A data set of a million images has tables of hundreds of megabytes and arrays of gigabytes. Memory
holds one row at a time, and eight bytes a row for the counts.
"""

import csv
import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..common.files import atomic_write


@contextmanager
def atomic_table(path: Path, columns: Iterable[str]) -> "Iterator[csv.DictWriter[str]]":
    """Yield a row writer for a CSV file that replaces ``path`` when the block succeeds."""
    with (
        atomic_write(path) as fresh,
        fresh.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
        writer.writeheader()
        yield writer


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file, one at a time."""
    with path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def count_rows(path: Path) -> int:
    """Count the rows of a CSV file without its header."""
    return sum(1 for _ in read_rows(path))


class ArrayWriter:
    """Writer of a uint8 array file (.npy), one row at a time.

    The header states the number of rows, so it is written again at the end, into the room that
    NumPy leaves for it.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = 0
        self._row_shape = row_shape
        self._stream = path.open("wb")
        self._write_header()
        self._start = self._stream.tell()

    def append(self, row: NDArray[np.uint8]) -> None:
        """Append one row, uint8 of the row's shape."""
        assert row.shape == self._row_shape
        self._stream.write(np.ascontiguousarray(row).data)
        self.rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        with self._stream:
            if error is None:
                self._stream.seek(0)
                self._write_header()
                assert self._stream.tell() == self._start
                self._stream.flush()
                os.fsync(self._stream.fileno())

    def _write_header(self) -> None:
        """Write the header with the present number of rows."""
        header: Mapping[str, Any] = {
            "descr": "|u1",
            "fortran_order": False,
            "shape": (self.rows, *self._row_shape),
        }
        np.lib.format.write_array_header_1_0(self._stream, dict(header))


class Fingerprints:
    """Counter of equal texts that keeps an eight-byte hash of each.

    Among a million different texts, two share a hash with a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._values = array("Q")

    def add(self, text: str) -> None:
        """Add one text."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8)
        self._values.append(int.from_bytes(digest.digest(), "little"))

    def count_distinct(self) -> int:
        """Count the different texts."""
        return len(np.unique(self._array()))

    def count_repeated(self) -> int:
        """Count the texts that an earlier text equals."""
        return len(self._values) - self.count_distinct()

    def count_in(self, other: Self) -> int:
        """Count the texts, repeated ones included, that ``other`` has too."""
        return int(np.isin(self._array(), np.unique(other._array())).sum())

    def count_distinct_in(self, other: Self) -> int:
        """Count the different texts that ``other`` has too."""
        return len(np.intersect1d(self._array(), other._array()))

    def _array(self) -> NDArray[np.uint64]:
        """Return the hashes as an array, uint64 (n,)."""
        return np.frombuffer(self._values, dtype=np.uint64) if self._values else np.empty(0, "u8")
