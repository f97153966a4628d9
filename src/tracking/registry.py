"""MLflow's registry: versions of registered models are logged, promoted, downloaded and served."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import mlflow.artifacts
import pandas as pd
from mlflow.exceptions import MlflowException

from ..common.errors import UserError
from ..common.logging import logger
from .address import tracking_uri
from .failures import STORE_ERRORS, http_status, short_reason, store_error
from .outbox import Event
from .registered_model import CANDIDATE, ModelVersion
from .store import connect, ensure_sqlite, quiet_mlflow

LOGGED_TAG = "logged"  # of a version: when its run logged it, in milliseconds since 1970
MODEL_FOLDER = "generator"  # folder within a logged model that its loader reads


def log_model(
    client: mlflow.MlflowClient,
    root: Path,
    run_id: str,
    event: Event,
    folder: Path,
    may_have_arrived: bool,
) -> None:
    """Log a generator as a new version of its registered model, and make it the candidate.

    Args:
        client: of the store.
        root: the project's folder.
        run_id: of the run that logs the generator.
        event: of the outbox, of kind "generator".
        folder: the event's files: MODEL_FOLDER and the loader.
        may_have_arrived: whether an earlier call, whose answer was lost, may have logged it.
    """
    name = event["name"]
    number = _version_of_run(client, name, run_id) if may_have_arrived else None
    if number is None:
        number = _register(root, run_id, event, folder)
    for key, value in event["tags"].items():
        client.set_model_version_tag(name, number, key, value)
    client.set_model_version_tag(name, number, LOGGED_TAG, str(event["time"]))
    # A version that waited while the store was away may be older than the present candidate.
    candidate = _version_by_alias(client, name, CANDIDATE)
    since = int(candidate.tags.get(LOGGED_TAG, 0)) if candidate else 0
    if candidate is None or since <= event["time"]:
        client.set_registered_model_alias(name, CANDIDATE, number)
    else:
        logger.warning(
            f"{name}: version {number} was logged at {_time(event['time'])}, before version "
            f"{candidate.number} at {_time(since)}, which stays the candidate; if a clock was "
            "wrong, move the alias in MLflow's UI"
        )


def model_version(root: Path, name: str, alias: str) -> ModelVersion | None:
    """Return the version of a registered model that an alias names, or None.

    Raises:
        UserError: if the store cannot be reached.
    """
    with connect(root) as client:
        return _version_by_alias(client, name, alias)


def set_alias(root: Path, name: str, alias: str, version: ModelVersion) -> None:
    """Point an alias of a registered model to a version.

    Raises:
        UserError: if the store cannot be reached.
    """
    with connect(root) as client:
        client.set_registered_model_alias(name, alias, str(version.number))


def download_generator(root: Path, address: str, folder: Path) -> Path:
    """Download an MLflow model into ``folder`` and return the generator's file.

    Raises:
        UserError: if there is no such model, or if it is not one of this project.
    """
    with _model_errors(root, address):
        model = mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=str(folder))
    file = Path(model) / "data" / MODEL_FOLDER / "generator.pt"
    if not file.is_file():
        raise UserError(f"{address}: it is not a generator of this project")
    return file


def scoring_app(root: Path, address: str) -> Any:
    """Load an MLflow model into MLflow's scoring server, an ASGI application.

    The model's own code is run.

    Raises:
        UserError: if there is no such model.
    """
    with _model_errors(root, address):
        from mlflow.pyfunc import load_model, scoring_server

        return scoring_server.init(load_model(address))


def _version_of_run(client: mlflow.MlflowClient, name: str, run_id: str) -> str | None:
    """Return the number of the version that a run has registered, or None."""
    versions = client.search_model_versions(f"name = '{name}'")
    return next((str(version.version) for version in versions if version.run_id == run_id), None)


def _version_by_alias(client: mlflow.MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the version that an alias names, or None."""
    try:
        version = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return ModelVersion(int(version.version), version.tags)


def _time(milliseconds: int) -> str:
    """Return a time since 1970 in words."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _register(root: Path, run_id: str, event: Event, folder: Path) -> str:
    """Log a generator without pickles as a new version, and return the version's number.

    The model maps a table of seeds and indices to PNG files.
    """
    import mlflow.pyfunc  # it imports for seconds
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    seed, index, png = ColSpec("long", "seed"), ColSpec("long", "index"), ColSpec("string", "png")
    signature = ModelSignature(
        Schema([seed, index]),
        Schema([seed, index, png]),
        ParamSchema([ParamSpec("truncation", "double", 0.0)]),
    )
    example = pd.DataFrame({"seed": [0, 0], "index": [0, 1]})
    loader = folder / event["code"]
    mlflow.set_tracking_uri(tracking_uri(root))
    with mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name=event["name"],
            loader_module=loader.stem,
            data_path=str(folder / MODEL_FOLDER),
            code_paths=[str(loader)],
            signature=signature,
            input_example=(example, {"truncation": 0.0}),
            pip_requirements=event["requires"],
            registered_model_name=event["name"],
        )
    return str(logged.registered_model_version)


@contextmanager
def _model_errors(root: Path, address: str) -> Iterator[None]:
    """Point MLflow to the project's store, and report what it refuses as a ``UserError``.

    Raises:
        UserError: if MLflow does not give the model.
    """
    try:
        with quiet_mlflow():
            ensure_sqlite(root)
            mlflow.set_tracking_uri(tracking_uri(root))
            yield
    except STORE_ERRORS as error:
        if "API request" in str(error) and http_status(error) not in (400, 404):
            raise UserError(f"{address}: {store_error(tracking_uri(root), error)}") from error
        raise UserError(
            f"{address}: MLflow cannot give this model ({short_reason(error)}); `make ui` shows "
            "the registered ones"
        ) from error
