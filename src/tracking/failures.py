"""Errors of the MLflow store: their causes with the ways out, and what it never accepts."""

import errno
import os
import re
import shlex
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from alembic.util import CommandError
from mlflow.exceptions import MlflowException
from requests import HTTPError
from requests.utils import should_bypass_proxies
from sqlalchemy.exc import SQLAlchemyError

from ..common.errors import UserError
from ..common.secrets import hide_secrets, mask_address
from .address import is_local, sqlite_file
from .outbox import Event

# What MLflow raises if a store is away, full, damaged or of another version, or needs a package
# that is not installed.
STORE_ERRORS = (
    *(MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError, ImportError),
)
MIGRATIONS = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
# MLflow's text has the status of an answer; its error object often has not.
STATUS = re.compile(r"failed with error code (\d+)|too many (\d+) error responses")
FOREIGN = "INTERNAL_ERROR: Response: "  # before a JSON answer that is not MLflow's
# 4xx answers that are not about what was sent: a login, a timeout, a conflict, too many calls.
PASSING = (401, 403, 407, 408, 409, 425, 429, 499)
FORBIDDEN, NOT_FOUND, TOO_LARGE = 403, 404, 413
# Errors of a folder that this machine lacks or may not write.
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)
UPLOADS = ("files", "generator")  # kinds of events that go to the store's artifacts
SERVED = ("mlflow-artifacts:", "http:", "https:")  # artifacts that the server itself writes
# The cause of a failed connection, which follows the address that MLflow's message names twice.
CAUSE = re.compile(
    r"""\(Caused by \w+\((<[^>]*>, |\w+\(\d+, )?["'](\w+\([^)]*\): )?(?P<cause>.*?)"""
    r"""["'](\)\)|, \w+\()"""
)
# What says nothing here: the advice of MLflow and SQLAlchemy, and addresses of single files.
NOISE = re.compile(
    r"\. (Please|Take a backup|To increase) .*|\(Background on this .*| for url: \S+", re.DOTALL
)
PAGE = re.compile(r"<(!doctype|html|head|title|body|h1|\?xml).*", re.IGNORECASE | re.DOTALL)
TITLE = re.compile(r"<title>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Cause:
    """A cause of errors of a store."""

    sign: str  # pattern of ``_Failure.text``
    way_out: str  # template with attributes of the ``_Failure``


# The first one whose sign is found counts.
CAUSES = (
    Cause(r"(ModuleNotFound|Import)Error", "install the package that it names"),
    # Files of this machine.
    Cause(
        "filesystem tracking backend",
        "write {0.variable}=sqlite:///mlflow.db or unset it; `mlflow migrate-filestore --source "
        "{0.folder} --target sqlite:///mlflow.db` takes along what is there",
    ),
    Cause(
        "not a database|image is malformed|malformed database|no such (table|column)|"
        r"table \w+ already exists|found version None",
        "the file is damaged: restore it, or move it away: the next run creates a new one",
    ),
    Cause("Can't locate revision|out-of-date database schema", "{0.upgrade}"),
    Cause("No usable temporary", "set TMPDIR to a folder that can be written and has space"),
    Cause(r"Errno (28|122)\]|disk is full", "free some space in {0.fullest}"),
    Cause(
        r"readonly database|Permission denied|Read-only file|unable to open database|not permitted",
        "{0.path} and its folder must exist, and this user must be able to write them",
    ),
    Cause("database is locked", "another process uses it: try again when that has ended"),
    Cause(
        "disk I/O error|Input/output error|Stale file handle",
        "the disk or network folder of {0.path} fails: check it, or set {0.variable} to a file on "
        "another one",
    ),
    # Answers of what is at a server's address.
    Cause(
        "ProxyError|^proxied HTTP (403|407|5)",
        "the proxy that {0.proxy} names does not reach it; set NO_PROXY={0.host} if it needs no "
        "proxy, as a server on this machine",
    ),
    Cause(
        "HTTP 401|authentication failed",
        "check name and password in {0.variable}, or MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    ),
    Cause("FATAL:", "the server answers, but refuses: see to that, and start again"),
    Cause(
        "Invalid Host header",
        "the server answers, but refuses the name {0.host}: start it with `mlflow server "
        "--allowed-hosts {0.host}`",
    ),
    Cause(
        "not in a valid JSON format",
        "a page answers, perhaps one to sign in: {0.variable} must name MLflow itself; for a "
        "login without a browser there is MLFLOW_TRACKING_TOKEN",
    ),
    Cause("HTTP 403", "the server answers, but refuses: ask for access to it"),
    Cause("HTTP 404", "the server answers, but has no MLflow there: check {0.variable}"),
    Cause("HTTP 50[234]", "a gateway answers, but not the server behind it: start that"),
    Cause("HTTP [45]", "the server answers, but refuses or fails: see its log"),
    Cause(
        "CERTIFICATE|certificate", "set MLFLOW_TRACKING_SERVER_CERT_PATH to its authority's file"
    ),
    Cause(
        "WRONG_VERSION_NUMBER|wrong version", "the server has no TLS: write http:// for https://"
    ),
    # No answer.
    Cause(
        "failed with (timeout )?exception|[Cc]onnect|timed out|translate host",
        "start its server, or unset {0.variable}{0.alternative}",
    ),
    Cause("", "see to that, and start again"),
)


class _Failure:
    """An error of a store, with what the ways out name."""

    def __init__(self, uri: str, error: Exception) -> None:
        words = f"{type(error).__name__}: {error}"
        # MLflow's registry may be elsewhere.
        registry = os.environ.get("MLFLOW_REGISTRY_URI") or ""
        server = urlsplit(registry).netloc.rpartition("@")[2]
        is_registry = (server and "API request" in words and server not in uri) and (
            server in words or not uri.startswith("http")
        )
        self.uri = registry if is_registry else uri
        self.variable = "MLFLOW_REGISTRY_URI" if is_registry else "MLFLOW_TRACKING_URI"
        self.alternative = "" if is_registry else " for a local store"
        self.host = urlsplit(self.uri).hostname or ""
        self._error = error
        if self.uri.startswith("http"):
            proxied = "proxied " if self.proxy else ""
            words = f"{proxied}HTTP {http_status(error)} {words}"
        self.text = words

    @property
    def proxy(self) -> str | None:
        """Environment variable with the proxy of the store's server; None if there is none."""
        if should_bypass_proxies(self.uri, no_proxy=None):
            return None
        names = (f"{urlsplit(self.uri).scheme}_proxy", "all_proxy")
        forms = (form for name in names for form in (name, name.upper()))
        return next((form for form in forms if os.environ.get(form)), None)

    @property
    def path(self) -> str:
        """File that cannot be used: the error's, or that of the store."""
        named = getattr(self._error, "filename", None)
        return str(named or sqlite_file(self.uri) or "the store")

    @property
    def folder(self) -> str:
        """Folder of a store of files."""
        path = Path(self.uri.removeprefix("file://").removeprefix("file:"))
        return shlex.quote(str(path))

    @property
    def fullest(self) -> Path:
        """Folder that is full: the error's, or that with the least free space."""
        if named := getattr(self._error, "filename", None):
            return Path(named).parent
        file = sqlite_file(self.uri)
        folders = [Path(tempfile.gettempdir()), *([file.parent] if file else [])]
        return min(folders, key=lambda folder: shutil.disk_usage(folder).free)

    @property
    def upgrade(self) -> str:
        """Way out for a database of another version of MLflow."""
        found = re.search(r"(?:identified by '|found version )(\w+)", self.text)
        if found and found[1] != "None" and not any(MIGRATIONS.glob(f"{found[1]}_*")):
            return (
                f"a newer MLflow than {mlflow.__version__} made it: install that version, or set "
                f"{self.variable} to another store"
            )
        address = shlex.quote(mask_address(self.uri))
        return f"an older MLflow made it: back it up, then `mlflow db upgrade {address}`"


def store_error(uri: str, error: Exception) -> UserError:
    """Describe why the store cannot be used, and what to do."""
    failure = _Failure(uri, error)
    cause = next(cause for cause in CAUSES if re.search(cause.sign, failure.text))
    return UserError(
        f"the MLflow store {mask_address(failure.uri)} cannot be used ({short_reason(error)}); "
        + cause.way_out.format(failure)
    )


def short_reason(error: BaseException) -> str:
    """Return an error's text on one line, without passwords, SQL statements and HTML."""
    text = hide_secrets(str(error).partition("[SQL:")[0])
    if page := PAGE.search(text):
        title = TITLE.search(page[0])
        text = "the answer is a page" + (f", {title[1]!r}" if title else "")
    elif cause := CAUSE.search(text):
        text = cause["cause"]
    return " ".join(NOISE.sub("", text).split())[:300]


def http_status(error: Exception) -> int | None:
    """Return the HTTP status of a store's answer, or None if there was no answer."""
    if isinstance(error, HTTPError) and error.response is not None:
        return int(error.response.status_code)
    text = str(error)
    if found := STATUS.search(text):
        return int(found[1] or found[2])
    if text.startswith(FOREIGN):  # of some 4xx answer
        return NOT_FOUND if re.search("404|not ?found", text, re.IGNORECASE) else 400
    # MLflow has a code for what is no answer too, which stands for 500 or more.
    status = int(error.get_http_status_code()) if isinstance(error, MlflowException) else 500
    return status if status < 500 else None


@contextmanager
def uploading() -> Iterator[None]:
    """Raise errors of the drivers of remote artifacts, which have types of their own, as MLflow's.

    Raises:
        MlflowException: in place of an error of another package.
    """
    try:
        yield
    except STORE_ERRORS:
        raise
    except Exception as error:
        if type(error).__module__ == "builtins":  # a defect
            raise
        raise MlflowException(f"{type(error).__name__}: {error}") from error


def is_refusal(error: Exception, kind: str, uri: str) -> bool:
    """Return whether a store will hardly ever take an event, while it takes others.

    Args:
        error: of the event's call.
        kind: of the event.
        uri: of the store.
    """
    if _is_unwritable(error):
        return kind in UPLOADS and not is_local(uri)
    status = http_status(error)
    is_passing = status in PASSING and not (status == FORBIDDEN and kind in UPLOADS)
    return status is not None and status < 500 and not is_passing


def refusal(error: Exception, event: Event, folder: Path | None, artifacts: str) -> str | None:
    """Describe what a store does not take.

    Args:
        error: of the event's call, a refusal.
        event: which is refused.
        folder: of the event's files, if it has any.
        artifacts: address of the run's artifacts.

    Returns:
        the description; None if the error is this machine's, and no refusal.
    """
    reason, status = short_reason(error), http_status(error)
    if _is_unwritable(error):
        if artifacts.startswith(SERVED):
            return None
        return (
            f"the server keeps artifacts at {mask_address(artifacts)}, which this machine cannot "
            f"write ({reason}): files are left out; `mlflow server --serve-artifacts` would take "
            "them"
        )
    is_absent = getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"  # says MLflow
    if event["kind"] == "generator" and status == NOT_FOUND and not is_absent:
        return f"this server is older than MLflow 3, so no model is registered ({reason})"
    if folder is None:
        return f"MLflow refuses some {event['kind']}: {reason}"
    names = event.get("name") or event.get("series")
    names = names or ", ".join(sorted(path.name for path in folder.iterdir()))
    limit = "; raise its limit, in nginx client_max_body_size" if status == TOO_LARGE else ""
    return f"the server refuses {names}, and such files are left out ({reason}){limit}"


def _is_unwritable(error: Exception) -> bool:
    """Return whether this machine cannot write an event's artifacts by itself."""
    if isinstance(error, OSError):  # as is that of an answer, which has no number
        return error.errno in UNWRITABLE
    return isinstance(error, ImportError)
