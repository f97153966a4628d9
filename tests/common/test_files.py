import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from src.common.files import (
    atomic_folder,
    atomic_write,
    expand_user,
    remove_folder,
    remove_stale,
    write_file,
    write_json,
)


def test_a_write_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_file(path, "first")
    assert path.read_text() == "first"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, "second")
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_files_get_the_users_usual_rights(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_file(tmp_path / "file", b"x")
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_folder_takes_the_place_of_the_old_one_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(path) as folder:  # noqa: PT012
        (folder / "b").write_text("2")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["a"]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".out-new-killed").mkdir()
    (tmp_path / ".out-new-killed" / "half").write_text("x")
    with atomic_folder(tmp_path / "out"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_file_that_a_killed_process_left_is_cleared_and_no_other(tmp_path: Path) -> None:
    names = (".[a]*.json-new-k", ".[a]*.json-new-l", ".b.json-new-k", "[a]*.json-new-k")
    for name in names:
        (tmp_path / name).write_text("half")
    write_file(tmp_path / "[a]*.json", "whole")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".b.json-new-k",
        "[a]*.json",
        "[a]*.json-new-k",
    ]
    remove_stale(tmp_path)
    assert not (tmp_path / ".b.json-new-k").exists()
    assert (tmp_path / "[a]*.json-new-k").exists()


def test_a_file_that_another_process_writes_is_not_cleared(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with atomic_write(path) as first:
        first.write_text("1")
        with atomic_write(path) as second:
            second.write_text("2")
            remove_stale(tmp_path)
            assert first.read_text() == "1"
        assert path.read_text() == "2"
    assert path.read_text() == "1"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_cleared_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another process began to write the same at this very moment."""
    make_file, make_folder = tempfile.mkstemp, tempfile.mkdtemp
    raced: list[str] = []

    def made_file(**options: Any) -> tuple[int, str]:
        handle, name = make_file(**options)
        if not raced:
            raced.append(name)
            Path(name).unlink()
        return handle, name

    def made_folder(**options: Any) -> str:
        name = make_folder(**options)
        if len(raced) == 1:
            raced.append(name)
            Path(name).rmdir()
        return name

    monkeypatch.setattr(tempfile, "mkstemp", made_file)
    monkeypatch.setattr(tempfile, "mkdtemp", made_folder)
    write_file(tmp_path / "file", "whole")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "a").write_text("1")
    assert len(raced) == 2
    assert (tmp_path / "file").read_text() == "whole"
    assert (tmp_path / "folder" / "a").read_text() == "1"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_home_folder_is_written_out_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert expand_user("~/x.zip") == Path("/home/someone/x.zip")
    assert expand_user("~nobody-of-that-name/x.zip") == Path("~nobody-of-that-name/x.zip")
    assert expand_user("data/x.zip") == Path("data/x.zip")


def test_what_another_process_writes_is_not_cleared(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic_folder(path) as first:
        (first / "a").write_text("1")
        with atomic_folder(path) as second:
            assert (first / "a").exists()
            (second / "b").write_text("2")
    assert [file.name for file in path.iterdir()] == ["a"]  # who ends last
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_another_process_uses_again_is_removed_but_for_that(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "files").mkdir(parents=True)
    remove = os.rmdir

    def used_again(path: Path, **options: object) -> None:
        if Path(path).name == "folder":
            (folder / "lock").touch()
        remove(path, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rmdir", used_again)
        remove_folder(folder)
    assert [path.name for path in folder.iterdir()] == ["lock"]
    remove_folder(folder)
    assert not folder.exists()
    remove_folder(folder)  # another process was quicker


def test_json_refuses_what_is_no_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()
