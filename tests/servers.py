"""Real servers and stores for tests: PostgreSQL and MLflow's, each with data of its own."""

import atexit
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest

from benchmarks.workspace import free_port

PASSWORD = "not-a-secret"
SECONDS_TO_START = 60


@cache
def empty_store() -> Path:
    """A sqlite file with MLflow's tables, which take seconds to make."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    atexit.register(shutil.rmtree, folder)
    mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs; the test is skipped where there is none."""
    on_path = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if on_path:
        return Path(on_path).resolve().parent
    if installed:
        return installed[-1].parent
    pytest.skip("no PostgreSQL server is installed")


class PostgresServer:
    """A PostgreSQL server, which may be stopped and come back at its address."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._programs = postgres_programs()
        # It refuses to run as root.
        self._who: dict[str, Any] = {}
        if os.getuid() == 0:
            self._who = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")
        (folder / "password").write_text(PASSWORD)
        make = [self._programs / "initdb", "-D", folder / "data", "-U", "me", "--no-sync"]
        secret = ["-A", "scram-sha-256", "--pwfile", folder / "password"]
        subprocess.run(
            list(map(str, [*make, *secret])),
            check=True,
            capture_output=True,
            cwd=folder,
            **self._who,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._address = f"me:{PASSWORD}@127.0.0.1:{self._port}"

    def start(self) -> None:
        """Until it answers."""
        listen = ["-h", "127.0.0.1", "-p", str(self._port), "-k", str(self._folder)]
        self._process = subprocess.Popen(
            [
                str(self._programs / "postgres"),
                "-D",
                str(self._folder / "data"),
                *listen,
                "-c",
                "fsync=off",
            ],
            cwd=self._folder,
            stderr=subprocess.DEVNULL,
            **self._who,
        )
        _wait(lambda: self._connect().close(), self._process)

    def stop(self) -> None:
        """End it, whoever is connected."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # SIGTERM would wait for clients to go
            self._process.wait()
            self._process = None

    def create(self, name: str) -> str:
        """The URL of a new, empty database."""
        with self._connect() as owner:
            owner.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://{self._address}/{name}"

    def _connect(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(f"postgresql://{self._address}/postgres", autocommit=True)


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL server."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = PostgresServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


class MlflowServer:
    """An MLflow server on a store, which may be stopped, hang and come back at its address."""

    def __init__(self, store: str, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options or ("--artifacts-destination", str(folder / "artifacts"))
        self._store, self._port = store, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Until it answers."""
        port = str(self._port)
        command = ["server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        place = ["--backend-store-uri", self._store, *self._options]
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
def mlflow_server(store: str, folder: Path, *options: str) -> Iterator[MlflowServer]:
    """A running MLflow server."""
    server = MlflowServer(store, folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


class Relay(ThreadingHTTPServer):
    """Between clients and a server, if there is one.

    While it ``stalls`` it brings half of an upload and waits. A request in whose method and path a
    key of ``answers`` occurs gets that status and content, and is not passed on.
    """

    daemon_threads = True

    def __init__(self, server: MlflowServer | None) -> None:
        super().__init__(("127.0.0.1", 0), _Passed)
        self.behind = server.address.removeprefix("http://") if server else ""
        self.answers: dict[str, tuple[int, str]] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.stalls = threading.Event()
        self.stalled = 0


class _Passed(BaseHTTPRequestHandler):
    """One request that is passed on."""

    server: Relay

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for key, (status, text) in self.server.answers.items():
            if key in f"{self.command} {self.path}":
                self._answer(status, "text/html", text.encode())
                return
        behind = http.client.HTTPConnection(self.server.behind, timeout=60)
        with closing(behind):
            behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                behind.putheader(name, value)
            behind.endheaders()
            if self.command == "PUT" and self.server.stalls.is_set():
                behind.send(body[: len(body) // 2])
                self.server.stalled += 1
                while self.server.stalls.is_set():
                    time.sleep(0.1)
                self.close_connection = True
                return
            behind.send(body)
            answer = behind.getresponse()
            content = answer.read()
        self._answer(answer.status, answer.headers.get("Content-Type", "text/plain"), content)

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(OSError):  # the client has given up
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815, the base has them so

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def relay(server: MlflowServer | None) -> Iterator[Relay]:
    """A relay in front of a server, or one that answers by itself."""
    with Relay(server) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            found.stalls.clear()
            found.shutdown()


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
