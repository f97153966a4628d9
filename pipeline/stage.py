"""What every stage does around its work: settings, tracking, errors as one line."""

import ctypes
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src import errors
from src.data.tables import rows_of
from src.errors import UserError
from src.files import write_atomic, write_json
from src.settings.tree import Settings, flatten, load_settings
from src.tracking import Run, start_run

PROJECT = Path(__file__).resolve().parents[1]
# `dvc exp run --temp` and `--queue` work in a copy of the project without its ignored files. What
# outlives a run (MLflow's store) and relative paths of the user belong to the original.
HOME = Path(os.environ.get("DVC_ROOT") or PROJECT)
PARAMS = PROJECT / "params.yaml"
METRICS = PROJECT / "reports" / "metrics"


@dataclass(frozen=True)
class Stage:
    """A stage that is running."""

    name: str
    settings: Settings
    run: Run

    def write_metrics(self, name: str, metrics: dict[str, Any]) -> None:
        """Write the stage's metrics for DVC, and log the numbers among them."""
        write_json(METRICS / f"{name}.json", metrics)
        self.run.log_metrics(dict(_numbers(metrics)))


def run_stage(name: str, work: Callable[[Stage], None]) -> int:
    """Do a stage's work within an MLflow run; the exit status.

    The parameters are checked and the tracking store is reached before any work starts.
    """
    return report_errors(lambda: track(name, load_settings(PARAMS), work))


def track(
    name: str, settings: Settings, work: Callable[[Stage], None], run_file: Path | None = None
) -> None:
    """Do a stage's work within an MLflow run.

    Args:
        name: of the stage.
        settings: the parameters.
        work: what to do.
        run_file: keeps the run's id until the work is done, so that the next call takes up the run
            of one that was cut off.
    """
    params = flatten(settings)
    experiment = os.environ.get("DVC_EXP_NAME") or "workspace"
    tags = {
        "dvc.stage": name,
        "dvc.experiment": experiment,
        "params.sha256": hashlib.sha256(json.dumps(params).encode()).hexdigest(),
    }
    if name != "fetch":
        tags["data.sha256"] = str(read_metrics("fetch")["data_sha256"])
    earlier = run_file.read_text() if run_file and run_file.exists() else None
    with start_run(f"{name} ({experiment})", HOME, params, tags, earlier) as run:
        if run_file:
            write_atomic(run_file, run.run_id)
        work(Stage(name, settings, run))
    if run_file:
        run_file.unlink()


def report_errors(work: Callable[[], None]) -> int:
    """Do some work, print what the user can mend as one line, and end when DVC does."""
    if "DVC_STAGE" in os.environ:
        end_with_parent()
    return errors.report_errors(work)


def end_with_parent() -> None:
    """Let the system kill this process when the one that started it ends (Linux).

    A dvc that is killed would else leave its stage at work beside that of the next dvc.
    """
    PR_SET_PDEATHSIG = 1  # noqa: N806, its name in <sys/prctl.h>
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def read_table(path: Path, index: str | None = None) -> pd.DataFrame:
    """A CSV file of an earlier stage; text columns keep texts such as "NA"."""
    try:
        return pd.read_csv(path, index_col=index, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error


def read_array(path: Path) -> NDArray[np.uint8]:
    """An array of images of an earlier stage, uint8 (n, size, size), mapped and not read yet."""
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unusable(path, error) from error
    return array


def read_metrics(name: str) -> dict[str, Any]:
    """The metrics of an earlier stage."""
    path = METRICS / f"{name}.json"
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error
    return metrics


def array_path(label: str, split: str) -> Path:
    """Where the prepared images of a class and split lie."""
    return PROJECT / "data" / "arrays" / label.lower() / f"{split}.npy"


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


def model_folder(label: str) -> Path:
    """Where the generator of a class, its history and its samples lie."""
    return PROJECT / "models" / label.lower()


def _numbers(metrics: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers in nested metrics, under dotted names."""
    found: list[tuple[str, float]] = []
    for key, value in metrics.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            found.append((f"{prefix}{key}", float(value)))
    return found


def unusable(path: Path, error: Exception) -> UserError:
    """A file of an earlier stage that is missing or damaged."""
    if isinstance(error, FileNotFoundError):
        reason = "it is missing"
    else:
        reason = f"it cannot be read ({' '.join(str(error).split())})"
    return UserError(f"{path.relative_to(PROJECT)}: {reason}; `dvc repro` makes it")
