"""Readers and writers of the stages' output files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import paths
from .conflicts import describe_conflicts, has_conflict
from .errors import UserError
from .files import write_file
from .paths import METRICS

if TYPE_CHECKING:  # a command that reads metrics alone starts without NumPy and pandas
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


def read_array(path: Path) -> NDArray[np.uint8]:
    """Map an earlier stage's images into memory, uint8 (n, size, size); pages are read on use."""
    import numpy as np

    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unusable_file_error(path, error) from error
    return array


def read_table(path: Path, index: str | None = None) -> pd.DataFrame:
    """Read a CSV file of an earlier stage; a text such as "NA" stays a text."""
    import pandas as pd

    try:
        return pd.read_csv(path, index_col=index, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise unusable_file_error(path, error) from error


def write_table(path: Path, table: pd.DataFrame, index: bool = False) -> None:
    """Write a CSV file atomically; the same table gives the same bytes."""
    write_file(path, table.to_csv(index=index, lineterminator="\n"))


def read_metrics(name: str) -> dict[str, Any]:
    """Read the metrics of an earlier stage."""
    path = METRICS / f"{name}.json"
    try:
        text = path.read_text(encoding="utf-8")
        if has_conflict(text):  # these files are in git
            raise UserError(describe_conflicts([path.relative_to(paths.PROJECT).as_posix()]))
        metrics: dict[str, Any] = json.loads(text)
    except (OSError, ValueError) as error:
        raise unusable_file_error(path, error) from error
    return metrics


def unusable_file_error(path: Path, error: Exception) -> UserError:
    """Build the error for a missing or damaged file of an earlier stage."""
    if isinstance(error, FileNotFoundError):
        reason = "it is missing"
    else:
        reason = f"it cannot be read ({' '.join(str(error).split())})"
    return UserError(f"{path.relative_to(paths.PROJECT)}: {reason}; `dvc repro` makes it")
