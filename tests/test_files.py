import json
import os
from pathlib import Path

import pytest

from src.errors import UserError
from src.files import folder_in_place_of, remove_folder, sha256_of_path, write_atomic, write_json


def test_a_write_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_atomic(path, "first")
    assert path.read_text() == "first"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "second")
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_files_get_the_users_usual_rights(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"x")
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_folder_takes_the_place_of_the_old_one_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with folder_in_place_of(path) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(RuntimeError), folder_in_place_of(path) as folder:  # noqa: PT012
        (folder / "b").write_text("2")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["a"]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".out-new-killed").mkdir()
    (tmp_path / ".out-new-killed" / "half").write_text("x")
    with folder_in_place_of(tmp_path / "out"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_what_another_process_writes_is_not_cleared(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with folder_in_place_of(path) as first:
        (first / "a").write_text("1")
        with folder_in_place_of(path) as second:
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


def test_a_folders_checksum_sees_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "x").write_text("1")
    first = sha256_of_path(folder)
    assert sha256_of_path(folder) == first
    (folder / "x").rename(folder / "y")
    renamed = sha256_of_path(folder)
    (folder / "y").write_text("2")
    assert len({first, renamed, sha256_of_path(folder)}) == 3
    with pytest.raises(UserError, match="there is no such file or folder"):
        sha256_of_path(tmp_path / "absent")
