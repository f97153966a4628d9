"""Addresses of servers, databases and SQLite files: what is written into them, and what not."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .errors import UserError
from .secrets import LOCAL

# What an address cannot hold before its last @, except percent-encoded.
RESERVED = re.compile(r"[\s\x00-\x1f\x7f/?#\[\]]")
SQLITE = re.compile(r"sqlite(\+pysqlite)?:///")
OPTIONS = re.compile(r"\w+=[^&/]*(&\w+=[^&/]*)*")  # behind the file of an SQLite database


def check_address(address: str, source: str) -> None:
    """Refuse an address that its reader would divide at the wrong places.

    Args:
        address: of a server or a database; anything else passes.
        source: the option or environment variable that holds it.

    Raises:
        UserError: the message quotes no part of the address, which may be one of a password.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return
    if scheme.startswith(LOCAL):
        _, mark, options = rest.partition("?")
        if mark and not OPTIONS.fullmatch(options):
            raise UserError(f"{source}: write %3F for ? in the name of a file, and %25 for %")
        return
    # For a database the last @ alone is that behind the password.
    user, _, _ = rest.rpartition("@")
    try:
        is_good = not RESERVED.search(user) and (scheme.startswith("http") or "@" not in user)
        urlsplit(address).port  # noqa: B018, reads it
    except ValueError:
        is_good = False
    if not is_good:
        raise UserError(
            f"{source}: the address is malformed, perhaps by its password; percent-encode what is "
            "no letter or digit in name and password, as %2F for /, %40 for @ and %20 for a blank"
        )


def sqlite_address(path: Path) -> str:
    """Return the address of an SQLite file, whatever characters its path has."""
    quoted = str(path).replace("%", "%25").replace("?", "%3F")
    # With a driver in the scheme, MLflow does not make a folder that is named as quoted.
    return ("sqlite" if quoted == str(path) else "sqlite+pysqlite") + f":///{quoted}"


def sqlite_path(address: str) -> Path | None:
    """Return the file of an SQLite address; None if it is in memory or of another kind."""
    scheme = SQLITE.match(address)
    path = unquote(address[scheme.end() :].partition("?")[0]) if scheme else ""
    return Path(path) if path and path != ":memory:" else None
