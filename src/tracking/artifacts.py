"""Where an SQLite store has its artifacts, kept right when the project is moved or copied.

MLflow writes absolute locations into the store, since it would resolve relative ones against the
working folder. DVC's queued experiments work in another one.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

FOLDER = "mlartifacts"  # of a local store's artifacts, in the project's folder
# Tables and columns with locations.
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
TIMEOUT = 60  # seconds to wait while another process writes to the store


def artifact_uri(folder: Path) -> str:
    """Return the address of the folder that holds the artifacts of a local store."""
    return (folder.resolve() / FOLDER).as_uri()


def relocate_artifacts(file: Path, root: Path) -> int:
    """Point a store to the project's artifacts where it names a former folder of the project.

    Args:
        file: the store, of SQLite.
        root: the project's folder.

    Returns:
        the number of experiments, runs and models that moved.

    Raises:
        sqlite3.Error: if the store cannot be read or written.
    """
    if not count_misplaced(file, root):
        return 0
    with closing(_open(file, root)) as store, store:
        return sum(
            store.execute(
                f"UPDATE {table} SET {column} = here({column}) WHERE {column} <> here({column})"
            ).rowcount
            for table, column in _locations(store)
        )


def count_misplaced(file: Path, root: Path) -> int:
    """Count the locations that ``relocate_artifacts`` would change.

    Raises:
        sqlite3.Error: if the store cannot be read.
    """
    with closing(_open(file, root)) as store:
        query = "SELECT count(*) FROM {0} WHERE {1} <> here({1})"
        counts = (store.execute(query.format(*place)).fetchone() for place in _locations(store))
        return sum(number for (number,) in counts)


def _open(file: Path, root: Path) -> sqlite3.Connection:
    """Open a store with the SQL function ``here``, which corrects a location."""
    here = artifact_uri(root)
    # Beside other stores, several projects may have their artifacts.
    is_own = file.resolve().is_relative_to(root.resolve())

    def correct(location: str | None) -> str | None:
        """Return a location in this project, if it is one of a former folder."""
        former, found, inner = (location or "").rpartition(f"/{FOLDER}")
        is_former = found and former.startswith("file://") and (not inner or inner[0] == "/")
        if not is_former or f"{former}/{FOLDER}" == here:
            return location
        now, then = _path(here + inner), _path(f"{former}/{FOLDER}{inner}")
        if is_own:
            # A new run's artifacts belong here. Those of a run that was not copied stay there.
            is_here = not inner or now.exists() or not then.exists()
        else:
            is_here = now.exists() and not _path(former).exists()
        return here + inner if is_here else location

    store = sqlite3.connect(file, timeout=TIMEOUT)
    store.create_function("here", 1, correct)
    return store


def _locations(store: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the tables and columns with locations that a store has."""
    tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
    return [(table, column) for table, column in LOCATIONS if table in tables]


def _path(uri: str) -> Path:
    """Return the path of a file's address."""
    return Path(unquote(uri.removeprefix("file://")))
