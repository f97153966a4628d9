"""Addresses of the MLflow store and of the project's runs in its UI.

Nothing here imports MLflow, which takes seconds: a command that prints an address starts at once.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from ..common.addresses import SQLITE, check_address, sqlite_address, sqlite_path
from ..common.errors import UserError
from ..common.files import write_json
from ..common.secrets import mask_address

EXPERIMENT = "chest-xray-gan"
LOCAL_UI = "http://127.0.0.1:5000"  # of `make ui`
TRACKING_FOLDER = ".tracking"  # in the project's folder; holds the outboxes and EXPERIMENT_IDS
EXPERIMENT_IDS = "stores.json"  # {store: {experiment's name: id}} of the stores reached so far


def tracking_uri(root: Path) -> str:
    """Return the address of the store: MLFLOW_TRACKING_URI, or SQLite in the project's folder.

    A relative path is relative to ``root``, not to the copy of the project that DVC makes for a
    queued experiment and removes afterwards.

    Raises:
        UserError: if the address is malformed.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    check_address(uri, "MLFLOW_TRACKING_URI")
    database = sqlite_address(root)
    for scheme, folder in (
        ("sqlite:///", database),
        ("sqlite+pysqlite:///", database),
        ("file:", f"file:{root}"),
    ):
        path = uri.removeprefix(scheme)
        if path != uri and not path.startswith(("/", ":memory:")):
            return f"{folder}/{path}"
    is_path = ":" not in uri and uri != "databricks"
    return str(root / uri) if is_path else uri


def is_local(uri: str) -> bool:
    """Return whether a store is a file or folder on this machine."""
    return uri.startswith(("sqlite:", "sqlite+", "file:")) or "://" not in uri


def has_server(root: Path) -> bool:
    """Return whether the store is a server with its own UI; `make ui` opens any other store."""
    return tracking_uri(root).startswith(("http://", "https://"))


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite store, or None for another kind of store.

    Raises:
        UserError: if the address is malformed.
    """
    if not uri.startswith(("sqlite:", "sqlite+")) or uri == "sqlite://":
        return None
    if not SQLITE.match(uri):
        raise UserError(
            f"MLFLOW_TRACKING_URI: {uri} is not the address of a store; write sqlite:///FILE"
        )
    return sqlite_path(uri)


def store_key(root: Path, uri: str) -> str:
    """Return the name by which the project's files refer to a store.

    It holds no secret, and a file in the project is relative to it, so that the store is known
    after the project was moved. The name of a name is the name, also of one that an earlier
    version wrote.
    """
    file = sqlite_file(uri)
    if file is None:
        return mask_address(uri)
    if not (root / file).exists():
        # A file of this project, in its former folder.
        former = (file.relative_to(folder) for folder in file.parents if not folder.exists())
        file = next((path for path in former if (root / path).exists()), file)
    file = root / file
    return sqlite_address(file.relative_to(root) if file.is_relative_to(root) else file)


def experiment_name() -> str:
    """Return the name of the MLflow experiment: MLFLOW_EXPERIMENT_NAME or the project's."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def remembered_experiment(root: Path, name: str) -> str | None:
    """Return the id of an experiment when its store was last reached.

    Returns:
        the id; None if the store was never reached, or if its SQLite file is gone.
    """
    uri = tracking_uri(root)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return None
    return _read_experiment_ids(root).get(store_key(root, uri), {}).get(name)


def remember_experiment(root: Path, name: str, experiment_id: str) -> None:
    """Write down the id of an experiment, to be known while the store is away."""
    if remembered_experiment(root, name) != experiment_id:
        ids = _read_experiment_ids(root)
        ids.setdefault(store_key(root, tracking_uri(root)), {})[name] = experiment_id
        write_json(root / TRACKING_FOLDER / EXPERIMENT_IDS, ids)


def runs_link(root: Path, tags: Mapping[str, str]) -> str:
    """Return the address, in MLflow's UI, of the project's runs that have all of ``tags``.

    A store without a server is opened on this machine by `make ui`.

    Raises:
        UserError: if the experiment is not remembered and the store cannot be reached.
    """
    name = experiment_name()
    experiment = remembered_experiment(root, name)
    if experiment is None:
        from .store import find_experiment  # MLflow is imported only if its store must be asked

        experiment = find_experiment(root, name)
    condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    path = f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    path += f"&searchFilter={quote(condition)}" if condition else ""
    server = tracking_uri(root) if has_server(root) else LOCAL_UI
    return mask_address(server).replace("//***@", "//").rstrip("/") + path


def _read_experiment_ids(root: Path) -> dict[str, dict[str, str]]:
    """Read the experiments' ids, by the store's key and the experiment's name."""
    file = root / TRACKING_FOLDER / EXPERIMENT_IDS
    stores = json.loads(file.read_text()) if file.exists() else {}
    ids: dict[str, dict[str, str]] = {}
    for store, known in stores.items():
        ids.setdefault(store_key(root, store), {}).update(known)
    return ids
