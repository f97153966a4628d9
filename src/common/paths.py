"""Paths of the project's files."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# `dvc exp run --temp` and `--queue` work in a copy of the project without its ignored files. What
# outlives a run (MLflow's store) and relative paths of the user belong to the original. DVC_ROOT
# may also be that of another project, whose stage calls a command of this one.
_dvc_root = Path(os.environ.get("DVC_ROOT") or PROJECT).resolve()
HOME = _dvc_root if PROJECT.is_relative_to(_dvc_root / ".dvc" / "tmp") else PROJECT
PARAMS = PROJECT / "params.yaml"
METRICS = PROJECT / "reports" / "metrics"


def git_root(folder: Path) -> Path | None:
    """Return the top of the git repository that a folder is in; None if it is in none.

    It is found as DVC finds it, by ``.git``, which in a worktree or a submodule is a file.
    """
    return next((top for top in (folder, *folder.parents) if (top / ".git").exists()), None)


def array_path(label: str, split: str) -> Path:
    """Return the path of a class and split's preprocessed images."""
    return PROJECT / "data" / "arrays" / label.lower() / f"{split}.npy"


def table_path() -> Path:
    """Return the path of the preprocessed images' table."""
    return PROJECT / "data" / "arrays" / "table.csv"


def model_folder(label: str) -> Path:
    """Return the folder of a class's generator, training history and samples."""
    return PROJECT / "models" / label.lower()


def generator_path(label: str) -> Path:
    """Return the path of a class's trained generator."""
    return model_folder(label) / "generator.pt"
