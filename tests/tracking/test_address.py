import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from src.common.errors import UserError
from src.tracking import address, store
from src.tracking.address import (
    EXPERIMENT,
    is_local,
    remember_experiment,
    remembered_experiment,
    runs_link,
    sqlite_file,
    store_key,
    tracking_uri,
)
from src.tracking.delivery import sync
from src.tracking.outbox import Outbox
from src.tracking.registered_model import CHAMPION
from src.tracking.registry import download_generator, model_version
from src.tracking.runs import start_run
from src.tracking.store import check_store
from src.ui import open_ui
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", "sqlite:////home/project/mlflow.db"),
        ("sqlite:///runs/a.db", "sqlite:////home/project/runs/a.db"),
        ("sqlite:////else/a.db", "sqlite:////else/a.db"),
        ("file:runs", "file:/home/project/runs"),
        ("file:///else", "file:///else"),
        ("runs", "/home/project/runs"),
        ("/else", "/else"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
    ],
)
def test_a_relative_address_is_relative_to_the_project(
    given: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert tracking_uri(Path("/home/project")) == kept


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a%b", "a b", "é"])
@pytest.mark.parametrize(
    ("given", "file"), [("", "mlflow.db"), ("sqlite:///runs/a%3Fb.db", "runs/a?b.db")]
)
def test_the_store_is_in_the_project_whatever_its_folder_is_called(
    name: str, given: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    root = Path("/home") / name
    uri = tracking_uri(root)
    assert sqlite_file(uri) == root / file
    assert make_url(uri).database == str(root / file)
    assert is_local(uri)
    assert sqlite_file(store_key(root, uri)) == Path(file)


@pytest.mark.parametrize("mark", ["/", " ", "#", "?", "\n"])
def test_a_password_that_is_not_encoded_is_refused_by_all_that_use_the_store(
    mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter{mark}moon@127.0.0.1:9/x")
    for use in (
        lambda: start_run("a", tmp_path, {}, {}).__enter__(),
        lambda: check_store(tmp_path),
        lambda: sync(tmp_path),
        lambda: model_version(tmp_path, "a", CHAMPION),
        lambda: download_generator(tmp_path, "models:/a/1", tmp_path),
        lambda: runs_link(tmp_path, {}),
        lambda: open_ui(5000),
    ):
        with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI: .* percent-encode") as caught:
            use()
        assert not any(word in str(caught.value) for word in ("hunter", "moon"))
    assert not (tmp_path / ".tracking").exists()


@pytest.mark.parametrize(
    ("now", "then"),
    [
        # The address, and how earlier versions masked it.
        ("http://me:secret@host/x", "http://***@host/x"),
        ("http://me:hunter%2Fmoon@host/x", "http://***@host/x"),
        ("http://host/x", "http://host/x"),
        ("postgresql://h/x?password=hunter&a=1", "postgresql://h/x?password=***&a=1"),
        ("http://me:hunter/moon@host/x", "http://me:hunter/moon@host/x"),  # it did not
    ],
)
def test_stores_of_earlier_versions_are_known_and_lose_their_secrets(
    now: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "tracking_uri", lambda root: now)
    stores = tmp_path / ".tracking" / "stores.json"
    stores.parent.mkdir()
    stores.write_text(json.dumps({then: {EXPERIMENT: "7"}}))
    assert remembered_experiment(tmp_path, EXPERIMENT) == "7"
    folder = tmp_path / ".tracking" / "work"
    Outbox.create(folder, {"store": then}).close()
    outbox = Outbox.open(folder, wait=True)
    assert outbox is not None
    assert outbox.header["store"] == store_key(tmp_path, now)
    outbox.close()
    remember_experiment(tmp_path, "other", "8")
    assert remembered_experiment(tmp_path, EXPERIMENT) == "7"
    for file in (stores, folder / "run.json"):
        assert not any(word in file.read_text() for word in ("hunter", "moon", "secret"))


@pytest.mark.parametrize("former", ["/gone/project", "/gone/a%b"])
def test_the_store_of_a_moved_project_is_known(former: str, tmp_path: Path) -> None:
    stores = tmp_path / ".tracking" / "stores.json"
    stores.parent.mkdir()
    stores.write_text(json.dumps({f"sqlite:///{former}/mlflow.db": {EXPERIMENT: "7"}}))
    assert remembered_experiment(tmp_path, EXPERIMENT) == "7"


def test_a_store_that_is_elsewhere_is_not_taken_for_the_own_one(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in (other / "mlflow.db", other / "away.db"):
        assert store_key(tmp_path / "project", f"sqlite:///{file}") == f"sqlite:///{file}"
    assert store_key(tmp_path, f"sqlite:///{tmp_path}/mlflow.db") == "sqlite:///mlflow.db"


def test_the_link_to_runs_names_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = runs_link(tmp_path, {"params.sha256": "abc"})
    assert link.startswith("http://127.0.0.1:5000/#/experiments/1/runs?")
    assert "&searchFilter=tags." in link
    assert link.endswith("%27abc%27")
    monkeypatch.setattr(store, "ensure_experiment", lambda client, root, name: "7")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org/mlflow/")
    link = runs_link(tmp_path, {})
    assert link.startswith("https://example.org/mlflow/#/experiments/7/")
    assert "secret" not in link


def test_the_link_to_a_store_that_is_away_is_that_of_the_remembered_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_experiment(tmp_path, "chest-xray-gan", "3")
    assert "/experiments/3/" in runs_link(tmp_path, {})
    (tmp_path / "mlflow.db").unlink()  # with it the experiment is gone
    assert "/experiments/1/" in runs_link(tmp_path, {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be used"):
        runs_link(tmp_path, {})
    remember_experiment(tmp_path, "chest-xray-gan", "4")
    assert runs_link(tmp_path, {}).startswith("http://127.0.0.1:9/#/experiments/4/runs?")


LIGHT = """
import pathlib, sys
from src.tracking import find_generator, registered_model
from src.tracking.address import has_server, remember_experiment, runs_link
from src.tracking.outbox import count_waiting
root = pathlib.Path(sys.argv[1])
remember_experiment(root, "chest-xray-gan", "3")
assert "/experiments/3/" in runs_link(root, {}) and not has_server(root)
assert count_waiting(root) == 0
print(*{"mlflow", "numpy", "pandas", "torch", "sqlalchemy"} & sys.modules.keys())
"""


def test_what_needs_no_store_imports_nothing_that_takes_seconds(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIGHT, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize("command", ["serve", "promote", "sync", "ui"])
@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--unknown", 2)])
def test_a_command_reads_its_arguments_before_it_imports_what_takes_seconds(
    command: str, argument: str, status: int
) -> None:
    code = f"""
import sys
from src.{command} import main
try:
    main([{argument!r}])
except SystemExit as end:
    assert end.code == {status}
print(*{{"mlflow", "numpy", "pandas", "torch", "pydantic", "uvicorn"}} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""
