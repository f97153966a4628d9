import base64
import json
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from src.common import secrets
from src.common.errors import UserError, report_errors
from src.common.secrets import guard, hide_secrets, mask_address, remember_address

# Of all characters that divide an address, or that a text quotes in another way.
PASSWORDS = [
    "hunter-moon",
    "hunter/moon",
    "hunter moon",
    "hunter@moon",
    "hunter#moon",
    "hunter?moon",
    "hunter:moon",
    "hunter'moon",
    'hunter"moon',
    "hunter\nmoon",
    "hunter\\moon",
    "hunter&moon=1",
    "hunter%moon",
    "hunter?token=moon",
    "é hunter +moon",
]
WORDS = ("hunter", "moon")


def in_any_form(password: str) -> list[str]:
    """A password in the ways in which drivers quote it."""
    return [
        *(password, quote(password, safe=""), repr(password), json.dumps(password)),
        *(base64.b64encode(f"me:{password}".encode()).decode(), *password.split("/")),
    ]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("written", [str, lambda password: quote(password, safe="")])
@pytest.mark.parametrize(
    "address",
    [
        "http://me:{}@host:80/x",
        "https://{}@host/x",
        "postgresql+psycopg://me:{}@host/x?a=1",
        "postgresql://host/x?user=me&password={}",
        "mysql://host/x?ssl_secret={}&a=1",
    ],
)
def test_an_address_shows_no_part_of_a_secret(address: str, password: str, written: object) -> None:
    assert callable(written)
    shown = mask_address(address.format(written(password)))
    assert not any(word in shown for word in WORDS)
    assert shown.startswith(address.partition("://")[0] + "://")
    assert mask_address(shown) == shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://127.0.0.1:5000/x", "http://127.0.0.1:5000/x"),
        ("http://me:secret@host/x", "http://***@host/x"),
        ("sqlite:////home/me@work/x.db", "sqlite:////home/me@work/x.db"),
        ("postgresql://me:se@cret@host/x", "postgresql://***@host/x"),
        (
            "postgresql://host/x?user=me&password=se@cret",
            "postgresql://host/x?user=me&password=***",
        ),
        ("tune.journal", "tune.journal"),
    ],
)
def test_the_rest_of_an_address_is_shown(address: str, shown: str) -> None:
    assert mask_address(address) == shown


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("source", ["variable", "command line"])
def test_a_text_of_others_shows_no_part_of_a_secret(
    password: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "_given", set())
    address = f"postgresql://me:{quote(password, safe='')}@host/x"
    if source == "variable":
        monkeypatch.setenv("TUNE_STORAGE", address)
    else:
        remember_address(address)
    for quoted in [address, *in_any_form(password)]:
        text = hide_secrets(f"connection of ({quoted}) to host failed, port 5432")
        assert not any(word in text for word in WORDS)
        assert base64.b64encode(f"me:{password}".encode()).decode() not in text
        assert text.startswith("connection of (")
        assert text.endswith(") to host failed, port 5432")


def test_secrets_with_a_variable_or_an_option_of_dvc_of_their_own_are_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "['remote \"far\"']\n    url = https://me:first/one@host/x\n"
    )
    (tmp_path / ".dvc" / "config.local").write_text("    password = second-one\n    jobs = 4\n")
    monkeypatch.setattr(secrets, "HOME", tmp_path)
    secrets._dvc_options.cache_clear()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "third-one")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "fourth-one")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:fifth-one@proxy")
    monkeypatch.setenv("SOME_KEY", "true")
    told = "https://me:first/one@host/x first/one second-one third-one fourth-one fifth-one true"
    assert hide_secrets(told) == "https://***@host/x *** *** *** *** *** true"
    secrets._dvc_options.cache_clear()


@pytest.mark.parametrize("text", ["Traceback (most recent call last)", "3 of 4 epochs", "a/b @ c"])
def test_a_text_without_secrets_stays_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_STORAGE", "postgresql://me:a%2Fback@host/x")
    assert hide_secrets(text) == text


def test_what_libraries_write_to_stderr_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter-moon@host/x")

    def work() -> None:
        print("retrying with hunter-moon", file=sys.stderr)
        raise UserError("http://me:hunter-moon@host/x: 'hunter-moon' is refused")

    assert report_errors(work) == 1
    guard(sys.stderr)  # again, which changes nothing
    told = capsys.readouterr().err
    assert told == "retrying with ***\nerror: http://***@host/x: '***' is refused\n"
