import subprocess
import sys
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.tracking import store
from src.tracking.address import hide_password, remember_experiment, runs_link, tracking_uri
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


@pytest.mark.parametrize(
    "address",
    [
        "http://me:secret@host/x",
        "postgresql://me:se@secret@host/x",
        "postgresql://host/x?user=me&password=secret&a=1",
        "sqlite:///x.db?sslpassword=secret",
    ],
)
def test_no_address_shows_a_password(address: str) -> None:
    shown = hide_password(f"cannot reach {address} (because)")
    assert "secret" not in shown
    assert shown.startswith("cannot reach ")
    assert shown.endswith(" (because)")


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


@pytest.mark.parametrize("command", ["serve", "promote", "sync"])
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
