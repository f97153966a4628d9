"""Secrets in addresses, in the environment and in DVC's configuration, which nothing shows.

An address hides its user name, its password and the values of parameters such as `token`. A text of
others, such as an error of a database's driver, may quote a secret in many ways: alone, decoded, in
part. So such a text is searched for each secret that this process can know.
"""

import base64
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TextIO
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from .paths import HOME

MASK = "***"
NAMES = "pass|pwd|secret|token|key|sig|cred|auth"  # in names of parameters that hold a secret
PARAMETER = re.compile(rf"[?&][^=&\s]*(?:{NAMES})[^=&\s]*=", re.IGNORECASE)
# Names of environment variables, and of DVC's options, whose values are secrets.
VARIABLE = re.compile(r"(password|passphrase|passwd|secret|token|key|connection_string)$", re.I)
ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://")
PLAIN_HOST = re.compile(r"[^/?#@:]*(:\d*)?(/|$)")  # the beginning of an address without a user
LOCAL = ("sqlite", "file")  # schemes of addresses that name no user
MIN_WORD = 3  # letters of a part of a secret; fewer say nothing, and occur in any text
MIN_VALUE = 6  # letters of a secret that stands alone; less is a setting such as `true`
MIN_INFIX = 6  # letters that are found within other words too

_given: set[str] = set()  # addresses from the command line


def remember_address(address: str) -> None:
    """Remember an address that is not in the environment, so that its secrets are hidden."""
    _given.add(address)


def mask_address(address: str) -> str:
    """Replace the secrets of an address by ``***``, whatever they are made of.

    An address in which the end of a secret is in doubt loses more than the secret.
    """
    scheme, separator, rest = address.partition("://")
    parameter = PARAMETER.search(rest)
    if parameter is not None:
        shown, hidden = rest[: parameter.end()], rest[parameter.end() :]
        if "@" in hidden and not PLAIN_HOST.match(shown):
            return f"{scheme}://{MASK}"  # the parameter may be a part of a password
        rest = shown + MASK
    _, at, place = rest.rpartition("@")
    if at and not scheme.startswith(LOCAL):
        rest = f"{MASK}@{place}"
    return scheme + separator + rest


def hide_secrets(text: str) -> str:
    """Replace every secret that this process can know in a text by ``***``."""
    addresses, secrets = _known()
    for address in addresses:
        text = text.replace(address, mask_address(address))
    if secrets:
        text = _pattern(secrets).sub(MASK, text)
    # Addresses that are not known.
    text = re.sub(r"//[^/\s]*@", f"//{MASK}@", text)
    return re.sub(rf"({PARAMETER.pattern})[^&\s]*", rf"\1{MASK}", text, flags=re.IGNORECASE)


def guard(stream: TextIO) -> None:
    """Hide secrets in all that is written to a stream from now on."""
    if "write" not in vars(stream):
        write = stream.write
        vars(stream)["write"] = lambda text: write(hide_secrets(text))


def _known() -> tuple[list[str], frozenset[str]]:
    """Return the addresses with secrets, the longest first, and all secrets."""
    named = [*os.environ.items(), *_dvc_options()]
    values = [*_given, *(value for _, value in named)]
    addresses = [value for value in values if ADDRESS.match(value) and mask_address(value) != value]
    secrets = {
        value for name, value in named if VARIABLE.search(name) and len(value) >= MIN_VALUE
    }.union(*map(_secrets, addresses))
    return sorted(addresses, key=len, reverse=True), frozenset(secrets)


@cache
def _dvc_options() -> tuple[tuple[str, str], ...]:
    """Return the names and values of DVC's configuration, of this project and of the user."""
    # A user may have no home; Path.expanduser would raise an error.
    user = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))  # noqa: PTH111
    lines: list[str] = []
    for file in (user / "dvc/config", HOME / ".dvc/config", HOME / ".dvc/config.local"):
        with suppress(OSError):  # there is none, or it is another user's
            lines += file.read_text(errors="replace").splitlines()
    pairs = (line.partition("=") for line in lines)
    return tuple((name.strip(), value.strip(" '\"")) for name, _, value in pairs)


def _secrets(address: str) -> Iterator[str]:
    """Yield the secrets of an address: its password, and the values of parameters."""
    rest = address.partition("://")[2]
    user, at, _ = rest.rpartition("@")
    if at and not PLAIN_HOST.match(rest):
        name, colon, password = user.partition(":")
        yield password if colon else name  # a token may stand in place of a name
        yield base64.b64encode(unquote(user).encode()).decode()  # as HTTP sends it
    for parameter in PARAMETER.finditer(rest):
        yield rest[parameter.end() :].partition("&")[0]


@cache
def _pattern(secrets: frozenset[str]) -> re.Pattern[str]:
    """Return a pattern of all forms in which a text may quote secrets or parts of them."""
    plain = {form(secret) for secret in secrets for form in (str, unquote, unquote_plus)}
    words = {word for secret in plain for word in re.split(r"[^\w.!$*~-]+", secret)}
    coded = {quote(secret, safe="") for secret in plain} | {quote_plus(secret) for secret in plain}
    escaped = {repr(secret)[1:-1] for secret in plain}
    forms = {form for form in plain | words | coded | escaped if len(form) >= MIN_WORD}
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile("|".join(map(_as_pattern, longest_first)) or r"(?!)")


def _as_pattern(form: str) -> str:
    """Return a pattern of one form, which matches a short one as a whole word only."""
    pattern = re.escape(form)
    return pattern if len(form) >= MIN_INFIX else rf"(?<!\w){pattern}(?!\w)"
