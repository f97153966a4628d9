"""Registered models of this project: their names, aliases and tags, and what a version consists of.

Nothing here imports MLflow, which takes seconds: commands check their arguments without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .address import EXPERIMENT

CANDIDATE, CHAMPION = "candidate", "champion"  # aliases: the newest version, the promoted one
# Tags of a version, by which `make promote` compares two of them.
DISTANCE, PRIVACY, JUDGED_BY = "frechet", "privacy", "judged_by"


@dataclass(frozen=True)
class ModelPackage:
    """Everything that MLflow needs for a new version of a registered model."""

    name: str  # of the registered model
    build: Callable[[Path], None]  # writes the model's files into a new folder
    loader: Path  # module with `_load_pyfunc`; it imports nothing of the project
    requirements: tuple[str, ...]  # packages that the loader imports
    tags: Mapping[str, str]  # of the version


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model."""

    number: int
    tags: Mapping[str, str]


def registered_name(label: str) -> str:
    """Return the name of a class's registered model."""
    return f"{EXPERIMENT}-{label.lower()}"


def model_uri(label: str, alias: str) -> str:
    """Return MLflow's address of the version of a class's model that an alias names."""
    return f"models:/{registered_name(label)}@{alias}"
