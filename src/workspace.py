"""Where the project's files lie, and how what the stages leave is read."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.data.classes import CLASSES
from src.data.tables import rows_of
from src.errors import UserError
from src.files import sha256_of_array

PROJECT = Path(__file__).resolve().parents[1]
# `dvc exp run --temp` and `--queue` work in a copy of the project without its ignored files. What
# outlives a run (MLflow's store) and relative paths of the user belong to the original.
HOME = Path(os.environ.get("DVC_ROOT") or PROJECT)
PARAMS = PROJECT / "params.yaml"
METRICS = PROJECT / "reports" / "metrics"


def array_path(label: str, split: str) -> Path:
    """Where the prepared images of a class and split lie."""
    return PROJECT / "data" / "arrays" / label.lower() / f"{split}.npy"


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


def patients_of(label: str, split: str) -> list[str]:
    """The patient of each prepared image of a class and split, in their order."""
    table = PROJECT / "data" / "arrays" / "table.csv"
    wanted = (label.lower(), split)
    try:
        return [
            sys.intern(row["patient"])
            for row in rows_of(table)
            if (row["label"].lower(), row["split"]) == wanted
        ]
    except (OSError, ValueError, KeyError) as error:
        raise unusable(table, error) from error


def train_split() -> tuple[
    tuple[NDArray[np.uint8], NDArray[np.uint8]], tuple[list[str], list[str]]
]:
    """The train images of both classes, and the patient of each."""
    first, second = CLASSES
    images = read_array(array_path(first, "train")), read_array(array_path(second, "train"))
    return images, (patients_of(first, "train"), patients_of(second, "train"))


def train_checksum() -> str:
    """What names the train images of both classes and whose they are."""
    images, patients = train_split()
    named = [patients, [sha256_of_array(part) for part in images]]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def read_table(path: Path, index: str | None = None) -> pd.DataFrame:
    """A CSV file of an earlier stage; text columns keep texts such as "NA"."""
    try:
        return pd.read_csv(path, index_col=index, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error


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
