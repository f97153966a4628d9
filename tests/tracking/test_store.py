import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import mlflow
import pytest

from src.common.errors import UserError
from src.tracking import store
from src.tracking.address import EXPERIMENT, runs_link
from src.tracking.delivery import sync
from src.tracking.registered_model import CHAMPION
from src.tracking.registry import model_version
from src.tracking.runs import Run, start_run, start_shared_run
from src.tracking.store import check_store
from tests.conftest import ROOT
from tests.tracking.conftest import Away, client, only_run

MAKES_A_STORE = """
import pathlib, sys
from src.tracking.runs import start_run
root = pathlib.Path(sys.argv[1])
print("begins", flush=True)
with start_run("train_normal", root, {}, {}):
    pass
"""


@pytest.mark.long
def test_a_store_whose_making_is_killed_is_made_by_the_next(tmp_path: Path) -> None:
    for hundredths in (10, 30, 60):
        root = tmp_path / str(hundredths)
        (root / "tmp").mkdir(parents=True)
        making = subprocess.Popen(
            [sys.executable, "-c", MAKES_A_STORE, str(root)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(root / "tmp")},
        )
        assert making.stdout is not None
        making.stdout.readline()
        while making.poll() is None and not any(root.glob("tmp/mlflow-*")):
            time.sleep(0.001)
        time.sleep(hundredths / 100)
        making.kill()
        making.communicate()
        assert (root / "mlflow.db").exists() or any(root.glob("tmp/mlflow-*"))
        with start_run("train_normal", root, {}, {}):
            pass
        assert (root / "mlflow.db").exists()
        assert not any(root.glob(".mlflow.db-new-*"))


def test_two_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    code = (
        "import sys, pathlib; from src.tracking.runs import start_run\n"
        "with start_run('a', pathlib.Path(sys.argv[1]), {}, {}) as run: run.log_metrics({'g': 1})"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
        for _ in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    experiment = client(tmp_path).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    assert len(client(tmp_path).search_runs([experiment.experiment_id])) == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("sqlite:mlflow.db", "is not the address of a store"),
        ("mysql+pymysql://127.0.0.1/x", "install the package that it names"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, given: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    for use in (check_store, sync):
        with pytest.raises(UserError, match=told):
            use(tmp_path)


def test_an_error_names_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/tracks")
    with pytest.raises(UserError, match="cannot be used") as caught:
        check_store(tmp_path)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:9/tracks" in str(caught.value)


def test_a_damaged_store_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    for use in (
        lambda: start_run("a", tmp_path, {}, {}).__enter__(),
        lambda: check_store(tmp_path),
        lambda: model_version(tmp_path, "a", CHAMPION),
        lambda: runs_link(tmp_path, {}),
    ):
        with pytest.raises(
            UserError, match=r"not a database.*; the file is damaged: restore it, or move it away"
        ):
            use()


def test_a_server_that_is_not_there_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(
            UserError,
            match=r"http://127\.0\.0\.1:9 cannot be used \(Failed to establish a new connection: "
            r"\[Errno \d+\] Connection refused\); start its server",
        ),
        start_run("a", tmp_path, {}, {}),
    ):
        pytest.fail("the work has started")


@pytest.mark.parametrize("start", [start_run, start_shared_run])
def test_a_server_that_hangs_is_waited_for_with_a_line_before_it_is_refused(
    start: Callable[..., AbstractContextManager[Run]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(store, "PATIENT_TIMEOUT", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("//", "//me:secret@"))
        with (
            pytest.raises(
                UserError, match=r"cannot be used \(Read timed out. \(read timeout=2\)\); start"
            ),
            start("a", tmp_path, {}, {}),
        ):
            pytest.fail("the work has started")
    told = capsys.readouterr().err
    address = address.replace("//", "//***@")
    assert told == f"the MLflow store {address} is slow to answer: waiting\n"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_a_time_to_wait_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")
    wanted = "'soon' for MLFLOW_HTTP_REQUEST_TIMEOUT.*a whole number of seconds"
    with pytest.raises(UserError, match=wanted), start_run("a", tmp_path, {}, {}):
        pytest.fail("the work has started")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "NameResolutionError(\"HTTPConnection(host='gone', port=80): Failed to resolve 'gone' "
            '([Errno -2] Name or service not known)")',
            "Failed to resolve 'gone' ([Errno -2] Name or service not known)",
        ),
        (
            "ConnectTimeoutError(<HTTPConnection(host='10.0.0.1', port=80) at 0x7f34d335f240>, "
            "'Connection to 10.0.0.1 timed out. (connect timeout=10)')",
            "Connection to 10.0.0.1 timed out. (connect timeout=10)",
        ),
    ],
)
def test_of_a_server_that_cannot_be_reached_the_cause_is_told(
    server: Path, away: Away, reason: str, told: str
) -> None:
    away.now = True
    away.words = f"failed (Caused by {reason})"
    with pytest.raises(UserError) as found:
        check_store(server)
    assert f" cannot be used ({told}); start its server" in str(found.value)


def test_an_experiment_that_another_host_makes_at_this_moment_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users who begin at once on a new server: the second one asks before the first has it."""
    made = client(tmp_path).create_experiment(EXPERIMENT)
    ask = mlflow.MlflowClient.get_experiment_by_name
    answers: list[object] = [None]

    def late(self: mlflow.MlflowClient, name: str) -> object:
        return answers.pop() if answers else ask(self, name)

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", late)
    with start_run("fetch", tmp_path, {}, {}):
        pass
    assert answers == []
    (run,) = client(tmp_path).search_runs([made])
    assert run.info.status == "FINISHED"


def test_an_experiment_that_somebody_deleted_is_named_with_the_way_out(tmp_path: Path) -> None:
    with start_run("a", tmp_path, {}, {}):
        pass
    number = only_run(tmp_path).info.experiment_id
    client(tmp_path).delete_experiment(number)
    with (
        pytest.raises(UserError, match=f"was deleted: restore it .* --experiment-id {number}"),
        start_run("b", tmp_path, {}, {}),
    ):
        pytest.fail("no work begins")
    client(tmp_path).restore_experiment(number)
    with start_run("b", tmp_path, {}, {}):
        pass


def test_to_look_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    check_store(tmp_path)
    assert not (tmp_path / "other.db").exists()
