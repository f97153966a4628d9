import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.common.errors import UserError
from src.common.locks import folder_lock
from src.common.progress import Progress
from src.data import download as module
from src.data.download import download, download_kermany, kaggle_token

CONTENT = b"0123456789" * 5000


class Server(ThreadingHTTPServer):
    """Serves CONTENT after going wrong in the ways listed in ``faults``, one for each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[str] = []
        self.requests: list[str | None] = []
        self.content = CONTENT
        self.asked_again, self.was_left = threading.Event(), True  # where a request stalls

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file"

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that the test cuts is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.server.requests:
            self.server.asked_again.set()
        self.server.requests.append(self.headers.get("Authorization"))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        content = self.server.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault in ("cut", "stall"):
            self.wfile.write(content[:1000])
            self.wfile.flush()
            if fault == "stall":
                self.server.was_left = self.server.asked_again.wait(5)
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(b"x" * len(content) if fault == "wrong" else content)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    without_pauses = SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr(module.pooch.core, "time", without_pauses)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_a_file_is_fetched_once_and_then_found(server: Server, tmp_path: Path) -> None:
    path = download(server.url, "file.bin", SHA256, folder=tmp_path)
    assert path.read_bytes() == CONTENT
    assert download(server.url, "file.bin", SHA256, folder=tmp_path) == path
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["cut", "500", "503", "wrong"])
def test_a_server_that_errs_or_cuts_is_asked_again(
    server: Server, tmp_path: Path, fault: str
) -> None:
    server.faults = [fault, fault]
    path = download(server.url, "file.bin", SHA256, folder=tmp_path, retries=2)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_server_that_stalls_is_left_and_asked_again(server: Server, tmp_path: Path) -> None:
    server.faults = ["stall"]
    path = download(server.url, "file.bin", SHA256, folder=tmp_path, timeout=0.3, retries=1)
    assert path.read_bytes() == CONTENT
    assert server.was_left


@pytest.mark.parametrize(
    ("fault", "message"),
    [("404", "HTTP status 404"), ("cut", "cannot be reached"), ("wrong", "another SHA-256")],
)
def test_a_download_that_fails_leaves_nothing(
    server: Server, tmp_path: Path, fault: str, message: str
) -> None:
    server.faults = [fault] * 3
    with pytest.raises(UserError, match=message):
        download(server.url, "file.bin", SHA256, folder=tmp_path, retries=2)
    assert not list(tmp_path.iterdir())


def test_a_published_md5_is_checked_where_there_is_no_sha256(
    server: Server, tmp_path: Path
) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    server.faults = ["wrong"]
    with pytest.raises(UserError, match=f"has another MD5 than {md5}"):
        download(server.url, "file.bin", folder=tmp_path, retries=0, md5=md5)
    assert download(server.url, "file.bin", folder=tmp_path, md5=md5).read_bytes() == CONTENT


def test_nobody_at_the_other_end(tmp_path: Path, server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"
    with pytest.raises(UserError, match="cannot be reached"):
        download(url, "file.bin", folder=tmp_path, retries=1)


def test_a_damaged_cached_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"damaged")
    assert download(server.url, "file.bin", SHA256, folder=tmp_path).read_bytes() == CONTENT


def test_kaggle_is_asked_with_the_users_token_and_mendeley_without(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"b")
    server.content = buffer.getvalue()
    monkeypatch.setattr(module, "KAGGLE_URL", server.url)
    monkeypatch.setattr(module, "MENDELEY_URL", server.url)
    archive = download_kermany()
    assert archive.name.startswith("mendeley")
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    assert download_kermany() == archive  # what is there stays the source, and nobody is asked
    assert len(server.requests) == 1
    archive.unlink()
    kaggle = download_kermany()
    assert kaggle.name.startswith("kaggle")
    monkeypatch.delenv("KAGGLE_KEY")
    assert download_kermany() == kaggle
    assert server.requests[0] is None
    assert str(server.requests[1]).startswith("Basic ")


def test_what_is_no_archive_is_not_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MENDELEY_URL", server.url)
    with pytest.raises(UserError, match="no zip archive and was removed"):
        download_kermany()
    assert not list(module.cache_folder().iterdir())


def test_what_a_killed_download_left_is_removed_and_another_is_waited_for(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tmpleft").write_bytes(b"half")
    with ExitStack() as held, ThreadPoolExecutor(1) as pool:
        assert held.enter_context(folder_lock(tmp_path))
        waiting = pool.submit(download, server.url, "file.bin", SHA256, folder=tmp_path)
        while "waiting for another process's download" not in capsys.readouterr().out:
            assert not waiting.done()
            time.sleep(0.01)
        assert (tmp_path / "tmpleft").exists()
        assert server.requests == []
        held.close()
        assert waiting.result(timeout=60).read_bytes() == CONTENT
    assert not (tmp_path / "tmpleft").exists()


def test_a_token_file_is_read_and_a_broken_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    assert kaggle_token() is None
    file = tmp_path / "kaggle.json"
    file.write_text(json.dumps({"username": "someone", "key": "secret"}))
    assert kaggle_token() == ("someone", "secret")
    file.write_text("{}")
    with pytest.raises(UserError, match=r"kaggle\.json is not a Kaggle token"):
        kaggle_token()


def test_the_meter_counts_each_byte_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an attempt is cut off and the next one starts anew."""
    shown: list[list[float]] = []

    class Shown(Progress):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            shown.append([self.total, 0])

        def advance(self, amount: float = 1) -> None:
            shown[-1][1] += amount

    monkeypatch.setattr(module, "Progress", Shown)
    server.faults = ["cut"]
    download(server.url, "file.bin", folder=tmp_path, retries=1)
    size = len(CONTENT) / module.MB
    assert [total for total, _ in shown] == [size, size]
    assert shown[0][1] < size
    assert shown[1][1] == pytest.approx(size)
