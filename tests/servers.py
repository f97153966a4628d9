"""Real servers and stores for tests: PostgreSQL and MLflow's, each with data of its own."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest

PASSWORD = "not-a-secret"
SECONDS_TO_START = 60


@cache
def empty_store() -> Path:
    """A sqlite file with MLflow's tables, which take seconds to make."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    atexit.register(shutil.rmtree, folder)
    mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs; the test is skipped where there is none."""
    on_path = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if on_path:
        return Path(on_path).resolve().parent
    if installed:
        return installed[-1].parent
    pytest.skip("no PostgreSQL server is installed")


@contextmanager
def postgres(*databases: str) -> Iterator[list[str]]:
    """A PostgreSQL server; the URL of each of its empty databases."""
    programs, port = postgres_programs(), free_port()
    # It refuses to run as root.
    who: dict[str, Any] = {}
    if os.getuid() == 0:
        who = {"user": "postgres", "group": "postgres", "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if who:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        make = [programs / "initdb", "-D", data, "-U", "me", "-A", "scram-sha-256", "--no-sync"]
        subprocess.run(
            [*map(str, make), "--pwfile", str(folder / "password")],
            check=True,
            capture_output=True,
            cwd=folder,
            **who,
        )
        listen = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
        server = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(data), *listen],
            cwd=folder,
            stderr=subprocess.DEVNULL,
            **who,
        )
        try:
            address = f"me:{PASSWORD}@127.0.0.1:{port}"
            _wait(lambda: psycopg.connect(f"postgresql://{address}/postgres").close(), server)
            with psycopg.connect(f"postgresql://{address}/postgres", autocommit=True) as owner:
                for name in databases:
                    owner.execute(f"CREATE DATABASE {name}".encode())
            yield [f"postgresql+psycopg://{address}/{name}" for name in databases]
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients to go
            server.wait()
    finally:
        shutil.rmtree(folder)


class MlflowServer:
    """An MLflow server on a store, which may be stopped, hang and come back at its address."""

    def __init__(self, store: str, folder: Path) -> None:
        self.folder = folder
        self._store, self._port = store, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Until it answers."""
        port = str(self._port)
        command = ["server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        artifacts = str(self.folder / "artifacts")
        place = ["--backend-store-uri", self._store, "--artifacts-destination", artifacts]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, *place],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,
        )
        health = f"{self.address}/health"
        _wait(lambda: urllib.request.urlopen(health, timeout=5).close(), self._process)

    def send(self, number: signal.Signals) -> None:
        """Send all its processes a signal: SIGSTOP lets it hang, SIGCONT go on."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self.send(number)
            self._process.wait()
            self._process = None


@contextmanager
def mlflow_server(store: str, folder: Path) -> Iterator[MlflowServer]:
    """A running MLflow server."""
    server = MlflowServer(store, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


def _wait(reach: Any, server: "subprocess.Popen[bytes]") -> None:
    """Until a server answers."""
    end = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            reach()
            return
        except (OSError, psycopg.OperationalError):
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.2)
