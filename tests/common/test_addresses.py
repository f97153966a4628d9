from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from src.common.addresses import check_address, sqlite_address, sqlite_path
from src.common.errors import UserError


@pytest.mark.parametrize("mark", ["/", " ", "#", "?", "\n", "[", "]", "\t", "\x00", "@"])
@pytest.mark.parametrize("scheme", ["http", "https", "postgresql+psycopg", "mysql"])
def test_a_password_that_is_not_encoded_is_refused_with_the_way_out(scheme: str, mark: str) -> None:
    if scheme.startswith("http") and mark == "@":
        check_address("http://me:hunter@moon@host/x", "HERE")  # which its readers take
        return
    with pytest.raises(UserError, match=r"^HERE: .* percent-encode .* %2F for /") as caught:
        check_address(f"{scheme}://me:hunter{mark}moon@host/x", "HERE")
    assert not any(word in str(caught.value) for word in ("hunter", "moon", "host"))


@pytest.mark.parametrize("address", ["http://me:hunter", "http://host:moon/x", "http://[host/x"])
def test_an_address_without_a_readable_port_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="malformed"):
        check_address(address, "HERE")


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:5000/x",
        "http://me:a%2Fb%20c'!:@[::1]:80/x?y=1",
        "postgresql://me:secret@host/x?sslmode=require",
        "postgresql://host/x?password=a@b".replace("@", "%40"),
        "sqlite:////home/me@work/a b#c/x.db?timeout=3",
        "databricks",
        "some/folder",
    ],
)
def test_a_sound_address_passes(address: str) -> None:
    check_address(address, "HERE")


@pytest.mark.parametrize(
    "address", ["sqlite:////tmp/a?b/x.db", "sqlite:///a?x=b/c.db", "sqlite:///a?"]
)
def test_an_sqlite_file_whose_name_would_be_cut_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=r"HERE: write %3F for \?"):
        check_address(address, "HERE")


@pytest.mark.parametrize(
    "name", ["a", "a?b", "a#b", "a%b", "a%20b", "a b", "é", "a&b=c?d", "a@b:c"]
)
def test_the_address_of_an_sqlite_file_names_that_file(name: str) -> None:
    path = Path("/home") / name / "x.db"
    address = sqlite_address(path)
    check_address(address, "HERE")
    assert make_url(address).database == str(path)
    assert sqlite_path(address) == path
    assert sqlite_path(f"{address}?timeout=3") == path
