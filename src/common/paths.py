"""Where the project's files lie."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
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
