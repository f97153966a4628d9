import hashlib
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.data.checksum import check_source, source_checksum
from tests.conftest import write_folder, write_zip

FILES = {"train/NORMAL/1.png": b"1", "b.png": b"22"}


def test_an_archives_checksum_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", FILES)
    assert source_checksum(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_folders_checksum_sees_names_and_contents(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", FILES)
    first = source_checksum(folder)
    assert source_checksum(folder) == first
    (folder / "b.png").rename(folder / "c.png")
    renamed = source_checksum(folder)
    (folder / "c.png").write_bytes(b"23")
    assert len({first, renamed, source_checksum(folder)}) == 3
    with pytest.raises(UserError, match="there is no such file or folder"):
        source_checksum(tmp_path / "absent")


def test_a_folders_checksum_does_not_see_what_systems_add(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", FILES)
    first = source_checksum(folder)
    added = ("._1.png", ".DS_Store", "Thumbs.db", "Icon\r", ".hidden/1.png")
    write_folder(folder / "train", dict.fromkeys(added, b"added"))
    check_source(folder, first)


def test_a_folder_of_links_has_the_checksum_of_what_they_lead_to(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", FILES)
    links = tmp_path / "links"
    links.mkdir()
    (links / "b.png").symlink_to(folder / "b.png")
    (links / "train").symlink_to(folder / "train")
    assert source_checksum(links) == source_checksum(folder)


def test_a_recorded_checksum_of_the_former_rule_is_told_apart(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", FILES | {".DS_Store": b"added"})
    digest = hashlib.sha256()
    for name in (".DS_Store", *sorted(FILES)):
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    former = digest.hexdigest()
    now = source_checksum(folder)
    with pytest.raises(UserError, match=rf"is unchanged, but the rule has changed.* to {now}"):
        check_source(folder, former)
    (folder / "b.png").write_bytes(b"33")
    with pytest.raises(UserError, match="has the checksum"):
        check_source(folder, former)
