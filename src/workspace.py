"""Where the project's files lie, and how what the stages leave is read."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.errors import UserError
from src.files import write_atomic

PROJECT = Path(__file__).resolve().parents[1]
# `dvc exp run --temp` and `--queue` work in a copy of the project without its ignored files. What
# outlives a run (MLflow's store) and relative paths of the user belong to the original.
HOME = Path(os.environ.get("DVC_ROOT") or PROJECT)
PARAMS = PROJECT / "params.yaml"
METRICS = PROJECT / "reports" / "metrics"


def array_path(label: str, split: str) -> Path:
    """Where the prepared images of a class and split lie."""
    return PROJECT / "data" / "arrays" / label.lower() / f"{split}.npy"


def table_path() -> Path:
    """Where the table of the prepared images lies."""
    return PROJECT / "data" / "arrays" / "table.csv"


def model_folder(label: str) -> Path:
    """Where the generator of a class, its history and its samples lie."""
    return PROJECT / "models" / label.lower()


def generator_path(label: str) -> Path:
    """Where the trained generator of a class lies."""
    return model_folder(label) / "generator.pt"


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
    write_atomic(path, table.to_csv(index=index, lineterminator="\n"))


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
    return UserError(f"{path.relative_to(PROJECT)}: {reason}; `dvc repro` makes it")
