import os
import stat
import zipfile
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.data import archive as archive_module
from src.data.archive import list_entries, read_entry
from tests.conftest import kaggle_files, write_folder, write_zip

LIMIT = 1 << 30


def test_a_zip_and_the_folder_it_unpacks_to_have_the_same_entries(tmp_path: Path) -> None:
    files = kaggle_files()
    packed = list_entries(write_zip(tmp_path / "a.zip", files), LIMIT)
    folder = list_entries(write_folder(tmp_path / "a", files), LIMIT)
    assert [entry.path for entry in packed] == [entry.path for entry in folder]
    assert {str(entry.path): read_entry(entry) for entry in packed} == files
    assert {str(entry.path): read_entry(entry) for entry in folder} == files


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../up.jpeg", "a/../../up.jpeg", "C:/up.jpeg", "a/\x07.jpeg", "..",
     "a/" + "n" * 256 + ".jpeg", "..\\up.jpeg", "C:\\up.jpeg", "\\\\host\\up.jpeg"],
)  # fmt: skip
def test_an_unsafe_name_is_refused(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "a.zip", {"train/NORMAL/good.jpeg": b"1", name: b"2"})
    with pytest.raises(UserError, match="unsafe entry name"):
        list_entries(path, LIMIT)


@pytest.mark.parametrize("root", ["./", ".", "/", ".\\"])
def test_an_entry_that_names_the_root_is_ignored(tmp_path: Path, root: str) -> None:
    path = write_zip(tmp_path / "a.zip", {root: b"", "./train/1.png": b"1"})
    assert [str(entry.path) for entry in list_entries(path, LIMIT)] == ["train/1.png"]


@pytest.mark.parametrize("packed", [True, False])
def test_what_systems_add_is_left_aside_before_its_name_is_checked(
    tmp_path: Path, packed: bool
) -> None:
    added = (
        *("Icon\r", "a/Icon\r", "__MACOSX/a/._Icon\r", "a/.DS_Store", "a/._1.png", "a/Thumbs.db"),
        *("a/desktop.ini", "@eaDir/1.png/SYNOPHOTO_THUMB_M.png", "$RECYCLE.BIN/1.png"),
        ".git/annex/1.png",
    )
    files = {"a/1.png": b"1"} | dict.fromkeys(added, b"added")
    path = (write_zip if packed else write_folder)(tmp_path / "a", files)
    assert [str(entry.path) for entry in list_entries(path, LIMIT)] == ["a/1.png"]


@pytest.mark.parametrize("packed", [True, False])
def test_a_backslash_is_a_slash(tmp_path: Path, packed: bool) -> None:
    """PowerShell packs so, and other systems unpack files of such names from it."""
    files = {"train\\NORMAL\\1.png": b"1", "train/NORMAL/2.png": b"22"}
    if packed:
        files["train\\PNEUMONIA\\"] = b""
    path = (write_zip if packed else write_folder)(tmp_path / "a", files)
    found = {str(entry.path): read_entry(entry) for entry in list_entries(path, LIMIT)}
    assert found == {"train/NORMAL/1.png": b"1", "train/NORMAL/2.png": b"22"}


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    info = zipfile.ZipInfo("train/NORMAL/link.jpeg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="is a link"):
        list_entries(path, LIMIT)


def test_links_in_a_folder_are_what_they_lead_to(tmp_path: Path) -> None:
    """DVC and git-annex link to hidden folders, and a folder may be there under two names."""
    store = write_folder(tmp_path / ".cache", {"ab/1": b"1", "ab/2": b"22", "3.png": b"333"})
    folder = tmp_path / "set"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "1.png").symlink_to(store / "ab" / "1")
    (folder / "all").symlink_to(store)
    (folder / "again").symlink_to(store / "ab")
    found = {str(entry.path): read_entry(entry) for entry in list_entries(folder, LIMIT)}
    assert found == {
        "train/1.png": b"1",
        "all/3.png": b"333",
        "all/ab/1": b"1",
        "all/ab/2": b"22",
        "again/1": b"1",
        "again/2": b"22",
    }
    (tmp_path / "set2").symlink_to(folder)
    assert len(list_entries(tmp_path / "set2", LIMIT)) == len(found)


def test_loops_of_links_end(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", {"a/1.png": b"1", "b/2.png": b"2"})
    (folder / "a" / "up").symlink_to(folder)
    (folder / "a" / "to b").symlink_to(folder / "b")
    (folder / "b" / "to a").symlink_to(folder / "a")
    (folder / "b" / "self").symlink_to(folder / "b")
    assert [str(entry.path) for entry in list_entries(folder, LIMIT)] == [
        *("a/1.png", "a/to b/2.png", "b/2.png", "b/to a/1.png"),
    ]


def test_folders_that_links_multiply_have_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0").mkdir()
    for number in range(1, 12):  # each leads twice to the one before: 2048 ways
        for name in ("x", "y"):
            folder = tmp_path / str(number)
            folder.mkdir(exist_ok=True)
            (folder / name).symlink_to(tmp_path / str(number - 1))
    monkeypatch.setattr(archive_module, "MAX_FILES", 1000)
    with pytest.raises(UserError, match="more than 1000 files or folders"):
        list_entries(tmp_path / "11", LIMIT)


@pytest.mark.parametrize("target", ["absent", "link.png"])
def test_a_broken_link_is_named(tmp_path: Path, target: str) -> None:
    folder = write_folder(tmp_path / "set", {"a/1.png": b"1"})
    (folder / "a" / "link.png").symlink_to(folder / "a" / target)
    with pytest.raises(UserError, match=r"a/link\.png is a broken link .*git annex get"):
        list_entries(folder, LIMIT)


def test_a_pipe_in_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"1\.png' in .* is no plain file"):
        list_entries(tmp_path, LIMIT)


def test_more_bytes_than_allowed_are_refused_before_unpacking(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bomb.zip", {"train/NORMAL/a.jpeg": bytes(5_000_000)})
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match="max_unpacked_gib"):
        list_entries(path, 4_000_000)


def test_an_entry_that_is_too_large_for_an_image_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others beside it can be, since not every file of an archive is."""
    path = write_zip(tmp_path / "a.zip", {"train/NORMAL/a.jpeg": bytes(101), "b": bytes(100)})
    monkeypatch.setattr(archive_module, "MAX_FILE_BYTES", 100)
    small, large = list_entries(path, LIMIT)
    assert read_entry(small) == bytes(100)
    with pytest.raises(UserError, match=r"a\.jpeg is of 0\.00 GiB, more than an image takes"):
        read_entry(large)


def test_an_entry_longer_than_it_says_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"train/NORMAL/a.jpeg": bytes(1000)})
    raw = path.read_bytes()
    size = (1000).to_bytes(4, "little")
    path.write_bytes(raw.replace(size, (10).to_bytes(4, "little")))
    (entry,) = list_entries(path, LIMIT)
    with pytest.raises(UserError, match=r"a\.jpeg"):
        read_entry(entry)


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"train/NORMAL/a.jpeg": b"secret"})
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match="encrypted"):
        list_entries(path, LIMIT)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04truncated"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable zip archive"):
        list_entries(path, LIMIT)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", kaggle_files())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="not a readable zip archive"):
        list_entries(path, LIMIT)


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("train/NORMAL/a.jpeg", b"0123456789" * 10)
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"x123456789", 1))
    (entry,) = list_entries(path, LIMIT)
    with pytest.raises(UserError, match=r"train/NORMAL/a\.jpeg cannot be read"):
        read_entry(entry)


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.zip"):
        list_entries(tmp_path / "absent.zip", LIMIT)


def test_entries_of_folders_hide_nothing_after_them(tmp_path: Path) -> None:
    files = {"a/": b"", "a/1.png": b"1", "b/": b"", "b/2.png": b"22"}
    packed = list_entries(write_zip(tmp_path / "a.zip", files), LIMIT)
    plain = {name: content for name, content in files.items() if content}
    unpacked = list_entries(write_folder(tmp_path / "a", plain | {"3.png": b"333"}), LIMIT)
    assert [(entry.path.as_posix(), entry.size) for entry in packed] == [
        ("a/1.png", 1),
        ("b/2.png", 2),
    ]
    assert [entry.path.as_posix() for entry in unpacked] == ["3.png", "a/1.png", "b/2.png"]


@pytest.mark.parametrize("packed", [True, False])
def test_as_many_files_as_are_allowed_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    path = (write_zip if packed else write_folder)(
        tmp_path / "a", {f"{number}.png": b"1" for number in range(5)}
    )
    monkeypatch.setattr(archive_module, "MAX_FILES", 5)
    assert len(list_entries(path, LIMIT)) == 5
    monkeypatch.setattr(archive_module, "MAX_FILES", 4)
    with pytest.raises(UserError, match="holds more than 4 files"):
        list_entries(path, LIMIT)


def test_a_folder_that_cannot_be_looked_into_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its images would be missing without a word."""
    path = write_folder(tmp_path / "a", {"1.png": b"1", "closed/2.png": b"2"})
    scan = os.scandir

    def refused(place: str) -> object:
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match="closed: Permission denied"):
        list_entries(path, LIMIT)


def test_a_pipe_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("train/NORMAL/a.png")
        info.external_attr = (stat.S_IFIFO | 0o644) << 16
        archive.writestr(info, b"")
    with pytest.raises(UserError, match="is a link or no plain file"):
        list_entries(path, LIMIT)


@pytest.mark.parametrize("method", [9, 93])  # deflate64, zstandard
def test_another_compression_is_named(tmp_path: Path, method: int) -> None:
    path = write_zip(tmp_path / "a.zip", {"train/NORMAL/a.jpeg": b"1"})
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 10] = method
    path.write_bytes(raw)
    with pytest.raises(UserError, match=rf"a\.zip is packed by .* \(number {method}.*; unpack it"):
        list_entries(path, LIMIT)


def test_a_backslash_beside_a_slash_is_refused(tmp_path: Path) -> None:
    """It is half of a letter in another encoding; taken for a slash, it would move the image."""
    path = write_zip(tmp_path / "a.zip", {"train/NORMAL/\u00f2\\\u00c4\u00aa1.png": b"1"})
    with pytest.raises(UserError, match="unsafe entry name"):
        list_entries(path, LIMIT)
