"""MLflow's registered models: packages of generators, their versions and aliases."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import mlflow.artifacts
import pandas as pd
from mlflow.exceptions import MlflowException

from ..common.errors import UserError
from .outbox import Event
from .store import (
    EXPERIMENT,
    STORE_ERRORS,
    connect,
    ensure_sqlite,
    quiet_mlflow,
    short_reason,
    tracking_uri,
)

CANDIDATE, CHAMPION = "candidate", "champion"  # aliases of versions of registered models
LOGGED = "logged"  # tag of a version: when its run logged it, in ms since 1970
MODEL_FOLDER = "generator"  # within a logged model, what its code loads


@dataclass(frozen=True)
class Package:
    """A generator to be handed on."""

    name: str  # of the registered model
    build: Callable[[Path], None]  # writes what the code loads into a folder
    code: Path  # a module with _load_pyfunc, which imports nothing of the project
    requires: tuple[str, ...]  # packages that the code imports
    tags: Mapping[str, str]  # of the version


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    number: int
    tags: Mapping[str, str]


def registered_name(label: str) -> str:
    """The registered model of a class."""
    return f"{EXPERIMENT}-{label.lower()}"


def log_model(
    client: mlflow.MlflowClient, root: Path, run_id: str, event: Event, place: Path, unsure: bool
) -> None:
    """Log a generator without pickles: a table of seeds and numbers in, PNG files out."""
    name = event["name"]
    number = _registered(client, name, run_id) if unsure else None
    if number is None:
        number = _register(root, run_id, event, place)
    for key, value in event["tags"].items():
        client.set_model_version_tag(name, number, key, value)
    client.set_model_version_tag(name, number, LOGGED, str(event["time"]))
    # What waited while the store was away may be older than what has been delivered since.
    candidate = _alias(client, name, CANDIDATE)
    if candidate is None or int(candidate.tags.get(LOGGED, 0)) <= event["time"]:
        client.set_registered_model_alias(name, CANDIDATE, number)


def _registered(client: mlflow.MlflowClient, name: str, run_id: str) -> str | None:
    """The version of a registered model that a run has made, if it has."""
    found = client.search_model_versions(f"name = '{name}'")
    return next((str(version.version) for version in found if version.run_id == run_id), None)


def _register(root: Path, run_id: str, event: Event, place: Path) -> str:
    """Log a generator as a new version of its registered model; its number."""
    import mlflow.pyfunc  # what else is imported with it takes seconds
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    seed, index, png = ColSpec("long", "seed"), ColSpec("long", "index"), ColSpec("string", "png")
    signature = ModelSignature(
        Schema([seed, index]),
        Schema([seed, index, png]),
        ParamSchema([ParamSpec("truncation", "double", 0.0)]),
    )
    example = pd.DataFrame({"seed": [0, 0], "index": [0, 1]})
    code = place / event["code"]
    mlflow.set_tracking_uri(tracking_uri(root))
    with mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name=event["name"],
            loader_module=code.stem,
            data_path=str(place / MODEL_FOLDER),
            code_paths=[str(code)],
            signature=signature,
            input_example=(example, {"truncation": 0.0}),
            pip_requirements=event["requires"],
            registered_model_name=event["name"],
        )
    return str(logged.registered_model_version)


def model_version(root: Path, name: str, alias: str) -> Version | None:
    """The version of a registered model that an alias names, if there is one.

    Raises:
        UserError: if the store cannot be reached.
    """
    with connect(root) as client:
        return _alias(client, name, alias)


def _alias(client: mlflow.MlflowClient, name: str, alias: str) -> Version | None:
    """The version that an alias names, if there is one."""
    try:
        found = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return Version(int(found.version), found.tags)


def set_alias(root: Path, name: str, alias: str, chosen: Version) -> None:
    """Let an alias of a registered model name a version.

    Raises:
        UserError: if the store cannot be reached.
    """
    with connect(root) as client:
        client.set_registered_model_alias(name, alias, str(chosen.number))


def download_generator(root: Path, address: str, folder: Path) -> Path:
    """The generator's file of an MLflow model, brought into ``folder``.

    Raises:
        UserError: if there is no such model, or it is none of this project.
    """
    with _model_at(root, address):
        place = mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=str(folder))
    file = Path(place) / "data" / MODEL_FOLDER / "generator.pt"
    if not file.is_file():
        raise UserError(f"{address}: it is not a generator of this project")
    return file


def scoring_app(root: Path, address: str) -> Any:
    """MLflow's server of a logged model, an ASGI application. The model's code is run.

    Raises:
        UserError: if there is no such model.
    """
    with _model_at(root, address):
        from mlflow.pyfunc import load_model, scoring_server

        return scoring_server.init(load_model(address))


@contextmanager
def _model_at(root: Path, address: str) -> Iterator[None]:
    """Ask MLflow for a model.

    Raises:
        UserError: if there is no such model.
    """
    try:
        with quiet_mlflow():
            ensure_sqlite(root)
            mlflow.set_tracking_uri(tracking_uri(root))
            yield
    except STORE_ERRORS as error:
        raise UserError(
            f"{address}: MLflow cannot give this model ({short_reason(error)}); `make ui` shows "
            "the registered ones"
        ) from error
