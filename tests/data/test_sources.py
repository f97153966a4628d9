import io
import struct
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from src.common.errors import UserError
from src.common.files import sha256_of_file
from src.config.data import DataSettings
from src.config.settings import parse_settings
from src.data.checksum import source_checksum
from src.data.classes import CLASSES, SPLITS
from src.data.kermany import count_table, list_archive_images
from src.data.patients import patient_of
from tests.conftest import collected, kaggle_files, png_bytes, write_folder, write_zip

LIMIT = 1 << 30


def data_settings(params: dict[str, Any], **changes: Any) -> DataSettings:
    params["data"].update(source="kermany", **changes)
    return parse_settings(params).data


def moved(files: dict[str, bytes], old: str, new: str) -> dict[str, bytes]:
    return {name.replace(old, new): content for name, content in files.items()}


LAYOUTS = {
    "Kaggle's": lambda files: files,
    "without a top folder": lambda files: moved(files, "chest_xray/", ""),
    "Mendeley's": lambda files: moved(files, "chest_xray/", "ChestXRay2017/chest_xray/"),
    "doubled": lambda files: files | moved(files, "chest_xray/", "chest_xray/chest_xray/"),
    "with strays": lambda files: (
        files
        | {
            "__MACOSX/chest_xray/train/NORMAL/._IM-0000-0001.jpeg": b"stray",
            "chest_xray/train/NORMAL/.DS_Store": b"stray",
            "chest_xray/train/NORMAL/._hidden.jpeg": b"stray",
            "chest_xray/readme.txt": b"stray",
            "chest_xray/loose.jpeg": b"stray",
        }
    ),
    "with val": lambda files: files | {"chest_xray/val/NORMAL/a.jpeg": png_bytes(7)},
    "in other letter case": lambda files: moved(
        moved(moved(files, "NORMAL/", "Normal/"), "test/", "TEST/"), ".jpeg", ".JPG"
    ),
    "as png": lambda files: moved(files, ".jpeg", ".png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packed", [True, False])
def test_every_layout_gives_the_same_images(
    tmp_path: Path, params: dict[str, Any], layout: str, packed: bool
) -> None:
    files = LAYOUTS[layout](kaggle_files())
    path = (write_zip if packed else write_folder)(tmp_path / "archive.zip", files)
    out = tmp_path / "out"
    out.mkdir()
    table = collected(data_settings(params, path=str(path)), tmp_path, out)
    assert table.groupby(["split", "label"]).size().tolist() == [2, 2, 2, 2]
    found = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert found == set(table["file"])
    assert set(table.columns) == {
        "file", "split", "label", "patient", "sha256", "width", "height", "mode",
    }  # fmt: skip
    assert set(table["width"]) == {40}
    assert set(table["sha256"]) == {sha256_of_file(out / name) for name in found}


def test_what_is_left_aside_is_counted(tmp_path: Path) -> None:
    files = kaggle_files()
    for change in ("doubled", "with val", "with strays"):
        files = LAYOUTS[change](files) | files
    files["chest_xray/val/PNEUMONIA/b.jpeg"] = png_bytes(8)
    listing = list_archive_images(write_zip(tmp_path / "a.zip", files), LIMIT)
    # val was there before the strays, and doubled only once
    assert (listing.repeated, listing.unused_split, listing.other_files) == (8, 2, 2)


def test_one_name_with_two_contents_is_refused(tmp_path: Path) -> None:
    files = kaggle_files()
    files["again/train/NORMAL/IM-0000-0001.jpeg"] = png_bytes(5)
    with pytest.raises(UserError, match=r"two different images named train/NORMAL/IM-0000"):
        list_archive_images(write_zip(tmp_path / "a.zip", files), LIMIT)


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    files = {name: content for name, content in kaggle_files().items() if "test/PNEU" not in name}
    with pytest.raises(UserError, match="no image in test/PNEUMONIA"):
        list_archive_images(write_zip(tmp_path / "a.zip", files), LIMIT)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"cats/1.jpeg": png_bytes(1)})
    with pytest.raises(UserError, match="train/NORMAL"):
        list_archive_images(path, LIMIT)


def test_changed_content_is_seen_by_its_checksum(tmp_path: Path, params: dict[str, Any]) -> None:
    path = write_folder(tmp_path / "archive", kaggle_files())
    out = tmp_path / "out"
    out.mkdir()
    settings = data_settings(params, path=str(path), sha256=source_checksum(path))
    assert len(collected(settings, tmp_path, out)) == 8
    next(path.rglob("*.jpeg")).write_bytes(b"other")
    with pytest.raises(UserError, match=r"data\.sha256: .* has the checksum"):
        collected(settings, tmp_path, out)


def test_a_name_that_tells_no_patient_is_no_patient_of_another_split(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    files = {
        f"{split}/{label}/{number}.png": png_bytes(number + 10 * index)
        for index, (split, label) in enumerate(product(SPLITS, CLASSES))
        for number in (1, 2)
    }
    out = tmp_path / "out"
    out.mkdir()
    path = write_folder(tmp_path / "set", files)
    table = collected(data_settings(params, path=str(path)), tmp_path, out)
    assert table["patient"].nunique() == 8


def test_a_relative_path_starts_at_the_project(tmp_path: Path, params: dict[str, Any]) -> None:
    write_zip(tmp_path / "archive.zip", kaggle_files())
    out = tmp_path / "out"
    out.mkdir()
    assert len(collected(data_settings(params, path="archive.zip"), tmp_path, out)) == 8


def test_a_missing_archive_never_becomes_phantoms(tmp_path: Path, params: dict[str, Any]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match=r"data\.path: .*absent\.zip"):
        collected(data_settings(params, path="absent.zip"), tmp_path, out)
    assert not list(out.iterdir())


ODD_DDS = b"DDS " + struct.pack("<7I", 124, 0x1007, 8, 8, 0, 0, 1) + bytes(44)
ODD_DDS += struct.pack("<8I", 32, 0x8000, 0, 0, 0, 0, 0, 0) + bytes(20)


@pytest.mark.parametrize("content", [b"not an image", ODD_DDS], ids=["text", "dds"])
def test_an_undecodable_image_is_kept_for_preprocess_to_name(
    tmp_path: Path, params: dict[str, Any], content: bytes
) -> None:
    """A format that nobody has X-rays in is not opened, whatever Pillow would raise."""
    with pytest.raises(Exception, match="pixel format" if content == ODD_DDS else "identify"):
        Image.open(io.BytesIO(content))
    files = kaggle_files()
    files["chest_xray/train/NORMAL/IM-0009-0001.jpeg"] = content
    out = tmp_path / "out"
    out.mkdir()
    path = write_zip(tmp_path / "a.zip", files)
    table = collected(data_settings(params, path=str(path)), tmp_path, out)
    row = table.set_index("file").loc["train/NORMAL/IM-0009-0001.jpeg"]
    assert (row["width"], row["height"], row["mode"]) == (0, 0, "")


def test_the_real_archive_has_the_published_counts(archive: Path) -> None:
    listing = list_archive_images(archive, 1 << 33)
    assert listing.counts() == {
        "train": {"NORMAL": 1341, "PNEUMONIA": 3875},
        "test": {"NORMAL": 234, "PNEUMONIA": 390},
    }
    assert "3883" in count_table(listing.counts())  # Mendeley's


def test_phantoms_come_with_their_patients(params: dict[str, Any], tmp_path: Path) -> None:
    params["data"]["phantom"].update(train_per_class=4, test_per_class=2, image_size=32)
    table = collected(parse_settings(params).data, tmp_path, tmp_path)
    assert [patient_of(Path(file).name) for file in table["file"]] == table["patient"].tolist()
    assert table["patient"].nunique() < len(table)


def test_images_of_every_kind_are_read_and_other_files_are_named(
    tmp_path: Path, params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    files = kaggle_files()
    place = "chest_xray/train/NORMAL/IM-0009-0001"
    files |= {f"{place}.TIF": png_bytes(3), f"{place}.bmp": png_bytes(4)}
    files |= {f"{place}.dcm": b"DICM", f"{place}.heic": b"x", f"{place}-2.dcm": b"DICM"}
    out = tmp_path / "out"
    out.mkdir()
    path = write_zip(tmp_path / "a.zip", files)
    table = collected(data_settings(params, path=str(path)), tmp_path, out)
    assert len(table) == 10
    assert "left aside in the classes' folders: 2 .dcm, 1 .heic; images" in capsys.readouterr().err
