"""Reading and writing what the stages leave."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import paths
from .errors import UserError
from .files import write_file
from .paths import METRICS


def read_array(path: Path) -> NDArray[np.uint8]:
    """An array of images of an earlier stage, uint8 (n, size, size), mapped and not read yet."""
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unusable(path, error) from error
    return array


def read_table(path: Path, index: str | None = None) -> pd.DataFrame:
    """A CSV file of an earlier stage; text columns keep texts such as "NA"."""
    try:
        return pd.read_csv(path, index_col=index, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error


def write_table(path: Path, table: pd.DataFrame, index: bool = False) -> None:
    """Write a CSV file, whole or not at all; the same table gives the same bytes."""
    write_file(path, table.to_csv(index=index, lineterminator="\n"))


def read_metrics(name: str) -> dict[str, Any]:
    """The metrics of an earlier stage."""
    path = METRICS / f"{name}.json"
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error
    return metrics


def unusable(path: Path, error: Exception) -> UserError:
    """A file of an earlier stage that is missing or damaged."""
    if isinstance(error, FileNotFoundError):
        reason = "it is missing"
    else:
        reason = f"it cannot be read ({' '.join(str(error).split())})"
    return UserError(f"{path.relative_to(paths.PROJECT)}: {reason}; `dvc repro` makes it")
