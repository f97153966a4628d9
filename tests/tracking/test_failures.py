"""What is told of a store that cannot be used: the cause, and a way out that fits it."""

import errno
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.tracking.failures import store_error
from src.tracking.registered_model import CANDIDATE
from src.tracking.registry import download_generator, model_version
from src.tracking.store import check_store
from tests.servers import Relay, relay

MISLEADING = ("move it away", "start its server")  # the ways out for a damaged file, for no answer


@pytest.fixture
def answering() -> Iterator[Relay]:
    """Something at an address that is no MLflow server, and answers as its ``answers`` say."""
    with relay(None) as found:
        yield found


def message(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_store(root)
    return str(caught.value)


@pytest.mark.parametrize("form", ["mlruns", "./mlruns", "file:./mlruns", "file:{}/mlruns"])
def test_a_store_of_files_is_refused_with_what_to_write(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", form.format(tmp_path))
    told = message(tmp_path)
    assert "; write MLFLOW_TRACKING_URI=sqlite:///mlflow.db or unset it" in told
    assert f"`mlflow migrate-filestore --source {tmp_path / 'mlruns'} --target" in told
    assert "move it away" not in told


@pytest.mark.parametrize(
    ("change", "way_out"),
    [
        (
            ["UPDATE alembic_version SET version_num = '0123456789ab'"],
            "a newer MLflow than .* made it: install that version",
        ),
        (
            ["UPDATE alembic_version SET version_num = '0123456789ab'", "DROP TABLE jobs"],
            "a newer MLflow than .* made it: install that version",
        ),
        (
            ["UPDATE alembic_version SET version_num = 'f5a4f2784254'"],
            "an older MLflow made it: back it up, then `mlflow db upgrade sqlite:///{}/mlflow.db`",
        ),
        (["DELETE FROM alembic_version"], "the file is damaged: restore it, or move it away"),
    ],
)
def test_a_database_of_another_version_is_told_from_a_damaged_one(
    tmp_path: Path, change: list[str], way_out: str
) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        for statement in change:
            store.execute(statement)
    with pytest.raises(UserError, match=way_out.format(tmp_path)):
        check_store(tmp_path)


def sqlite_error(file: Path, options: str, statements: str) -> sqlite3.Error:
    """SQLite's own error."""
    try:
        sqlite3.connect(f"file:{file}{options}", uri=True).executescript(statements)
    except sqlite3.Error as error:
        return error
    pytest.fail("there is none")


def test_a_healthy_database_is_not_blamed_for_its_disk_or_permissions(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    read_only = sqlite_error(file, "?mode=ro", "CREATE TABLE another (a)")
    full = sqlite_error(file, "", "PRAGMA max_page_count = 1; CREATE TABLE another (a)")
    missing = sqlite_error(tmp_path / "none" / "mlflow.db", "", "CREATE TABLE another (a)")
    tmp = tmp_path / "tmp"
    for error, way_out in (
        (read_only, f"{file} and its folder must exist, and this user must be able to write them"),
        (missing, f"{file} and its folder must exist"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/.mlflow.lock"), "/x/.mlflow.lock"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "this user must be able to write"),
        (sqlite3.OperationalError("disk I/O error"), f"the disk or network folder of {file} fails"),
        (OSError(errno.EIO, "Input/output error", "/x/y"), "the disk or network folder of /x/y"),
        (sqlite3.OperationalError("database is locked"), "try again when that has ended"),
        (OSError(errno.ENOSPC, "No space left on device", f"{tmp}/x"), f"some space in {tmp}"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", f"{tmp}/x"), f"some space in {tmp}"),
    ):
        told = str(store_error(f"sqlite:///{file}", error))
        assert way_out in told
        assert not any(words in told for words in MISLEADING)
    # A full disk whose error names no file: the fullest of the folders that are written.
    told = str(store_error(f"sqlite:///{file}", full))
    assert told.endswith((f"some space in {tmp_path}", f"some space in {tempfile.gettempdir()}"))


def test_full_scratch_space_is_named_where_the_store_is_elsewhere(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "scratch" / "x"))
    told = str(store_error("http://127.0.0.1:5000", error))
    assert told.endswith(f"; free some space in {tmp_path / 'scratch'}")


@pytest.mark.parametrize("secret", ["", "me:hunter-moon@"])
def test_a_registry_that_is_away_is_named_in_place_of_the_store(
    tmp_path: Path, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"http://{secret}127.0.0.1:9")
    check_store(tmp_path)
    with pytest.raises(UserError) as caught:
        model_version(tmp_path, "chest-xray-gan-normal", CANDIDATE)
    told = str(caught.value)
    assert told.endswith("; start its server, or unset MLFLOW_REGISTRY_URI")
    assert "127.0.0.1:9 cannot be used" in told
    assert "mlflow.db" not in told
    assert "hunter" not in told


def test_a_registry_that_refuses_is_named_in_place_of_the_store(
    tmp_path: Path, answering: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", answering.address)
    answering.answers = {"": (403, "no")}
    with pytest.raises(UserError, match=f"{answering.address} cannot.* the server answers, but"):
        model_version(tmp_path, "chest-xray-gan-normal", CANDIDATE)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("status", [None, 403, 503])
def test_a_proxy_that_keeps_a_server_out_of_reach_is_named(
    tmp_path: Path,
    answering: Relay,
    name: str,
    status: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for other in ("http_proxy", "all_proxy", "no_proxy"):
        for form in (other, other.upper()):
            monkeypatch.delenv(form, raising=False)
    if status:
        answering.answers = {"": (status, "<html><title>squid</title></html>")}
    monkeypatch.setenv(name, answering.address if status else "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5")
    told = message(tmp_path)
    assert f"the proxy that {name} names does not reach it; set NO_PROXY=127.0.0.1" in told
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert message(tmp_path).endswith(
        "start its server, or unset MLFLOW_TRACKING_URI for a local store"
    )


@pytest.mark.parametrize(
    ("status", "text", "reason", "way_out"),
    [
        (403, "Invalid Host header - x", "Invalid Host", "--allowed-hosts 127.0.0.1`"),
        (403, "<html><title>403 Forbidden</title>", "'403 Forbidden'", "ask for"),
        (401, "<!DOCTYPE html><p>no</p>", "the answer is a page", "check name and password"),
        (404, "<html><title>404 Not Found</title></html>", "404 Not Found", "has no MLflow there"),
        (404, '{"detail": "Not Found"}', "Not Found", "has no MLflow there"),
        (400, '{"error": "go away"}', "go away", "the server answers, but refuses or fails"),
        (200, "<html><title>\nSign in\n</title>", "a page, 'Sign in'", "perhaps one to sign in"),
        (200, "hello", "not in a valid JSON format", "must name MLflow itself"),
        (500, "x", "500", "the server answers, but refuses or fails: see its log"),
        (502, "x", "502", "a gateway answers, but not the server behind it"),
    ],
)  # fmt: skip
def test_a_server_that_answers_is_not_to_be_started(
    tmp_path: Path,
    answering: Relay,
    status: int,
    text: str,
    reason: str,
    way_out: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering.answers = {"": (status, text)}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", answering.address)
    told = message(tmp_path)
    assert reason in told
    assert way_out in told
    assert "<" not in told
    assert not any(words in told for words in MISLEADING)


def test_a_model_that_a_server_does_not_give_is_told_from_a_server_that_is_away(
    tmp_path: Path, answering: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "models:/chest-xray-gan-normal@candidate"
    for uri, told in (
        ("http://127.0.0.1:9", f"^{address}: the MLflow store .*; start its server"),
        (answering.address, f"^{address}: the MLflow store .*: ask for access"),
        ("", f"^{address}: MLflow cannot give this model .*`make ui`"),
    ):
        answering.answers = {"": (403, "no")}
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UserError, match=told):
            download_generator(tmp_path, address, tmp_path)


@pytest.mark.parametrize(
    ("uri", "text", "way_out"),
    [
        (
            "https://host",
            "API request to https://host/api failed with exception HTTPSConnectionPool(host='host',"
            " port=443): Max retries exceeded with url: /api (Caused by SSLError("
            "SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] self-signed')))",
            "set MLFLOW_TRACKING_SERVER_CERT_PATH to",
        ),
        (
            "https://host",
            "API request to https://host/api failed with exception HTTPSConnectionPool(host='host',"
            " port=443): Max retries exceeded with url: /api (Caused by SSLError(SSLError(1, "
            "'[SSL: WRONG_VERSION_NUMBER] wrong version number')))",
            "the server has no TLS: write http:// for https://",
        ),
        (
            "postgresql://host/x",
            'connection to server at "host", port 5432 failed: FATAL:  password authentication '
            'failed for user "me"',
            "check name and password in MLFLOW_TRACKING_URI",
        ),
        (
            "postgresql://host/x",
            'connection to server at "host" failed: FATAL:  database "x" does not exist',
            "the server answers, but refuses",
        ),
        (
            "postgresql://host/x",
            'connection to server at "host", port 5432 failed: Connection refused',
            "start its server",
        ),
        ("sqlite:////x/mlflow.db", "something new", "see to that, and start again"),
    ],
)
def test_other_causes_have_their_ways_out(uri: str, text: str, way_out: str) -> None:
    assert f"; {way_out}" in str(store_error(uri, RuntimeError(text)))
