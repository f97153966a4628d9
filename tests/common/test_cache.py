import threading
from pathlib import Path

import pytest

from src.common.cache import FileCache


def filled(folder: Path, *keys: str) -> FileCache:
    cache = FileCache(folder, ".txt", 100)
    for key in keys:
        cache.write(key, lambda stream, text=key: stream.write(text.encode()))
    return cache


def test_what_was_written_is_read(tmp_path: Path) -> None:
    cache = filled(tmp_path / "new" / "folder", "a")
    assert cache.read("a", Path.read_text) == "a"
    assert cache.read("b", Path.read_text) is None


def test_a_file_that_cannot_be_read_is_as_good_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> str:
        raise KeyError("torn\nin two")

    assert filled(tmp_path, "a").read("a", fail) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "a.txt cannot be read and is made again" in line


def test_nobody_holds_the_lock_of_a_file_beside_another(tmp_path: Path) -> None:
    events = []

    def wait() -> None:
        with filled(tmp_path).lock("a"):
            events.append("second")

    thread = threading.Thread(target=wait)
    with filled(tmp_path).lock("a"):
        thread.start()
        with filled(tmp_path).lock("b"):  # of another file
            thread.join(0.2)
        events.append("first")
    thread.join()
    assert events == ["first", "second"]


def test_where_no_lock_can_be_had_the_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with filled(tmp_path / "file" / "folder").lock("a"):
        pass


def test_a_removed_file_takes_its_lock_along(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, ".txt", 1)
    for key in ("a", "b"):
        with cache.lock(key):
            cache.write(key, lambda stream, text=key: stream.write(text.encode()))
    assert {path.name for path in tmp_path.iterdir()} == {"b.txt", "b.lock"}
