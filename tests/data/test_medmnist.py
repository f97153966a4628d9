"""PneumoniaMNIST, in files of its form."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.common.errors import UserError
from src.config.data import DataSettings
from src.config.settings import parse_settings
from src.data import download as downloads
from src.data.classes import CLASSES
from src.data.decode import decode_grey
from src.data.kermany import list_archive_images
from src.data.sources import reader_of
from tests.conftest import collected

Arrays = dict[str, NDArray[Any]]
COUNTS = {"train": 7, "val": 3, "test": 5}


def arrays(size: int = 64) -> Arrays:
    """A file's content: images that differ, every third one normal."""
    rng = np.random.default_rng(1)
    found: Arrays = {}
    for part, count in COUNTS.items():
        found[f"{part}_images"] = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
        found[f"{part}_labels"] = (np.arange(count) % 3 > 0).astype(np.uint8)[:, None]
    return found


def settings_for(params: dict[str, Any], **changes: Any) -> DataSettings:
    params["data"].update(source="medmnist", **changes)
    return parse_settings(params).data


def saved(path: Path, content: Arrays) -> Path:
    np.savez_compressed(path, **content)  # type: ignore[arg-type]
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("size", [64, 128, 224])
def test_the_images_become_png_and_val_a_part_of_train(
    size: int, tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    content = arrays(size)
    settings = settings_for(params, path=str(saved(tmp_path / "any name.npz", content)))
    table = collected(settings, tmp_path, out)
    for split, parts in (("train", ("train", "val")), ("test", ("test",))):
        rows = table[table["split"] == split]
        images = np.concatenate([content[f"{part}_images"] for part in parts])
        labels = np.concatenate([content[f"{part}_labels"] for part in parts])[:, 0]
        assert rows["label"].tolist() == [CLASSES[label] for label in labels]
        for file, image in zip(rows["file"], images, strict=True):
            with Image.open(out / file) as written:
                assert (written.format, written.mode, written.info) == ("PNG", "L", {})
                assert np.array_equal(np.asarray(written), image)
    counted = reader_of(settings).count_train(settings, tmp_path)
    assert counted == table[table["split"] == "train"].groupby("label").size().to_dict()


def test_each_image_is_a_patient_of_its_own_and_no_patient_is_known(
    tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    path = saved(tmp_path / "a.npz", arrays())
    records = list(
        reader_of(settings := settings_for(params, path=str(path))).collect(settings, tmp_path, out)
    )
    assert len({record.patient for record in records}) == len(records) == sum(COUNTS.values())
    assert not any(record.has_patient for record in records)


def changed(key: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Arrays:
    content = arrays()
    return content | {key: change(content[key])}


def without(key: str) -> Arrays:
    content = arrays()
    del content[key]
    return content


REFUSED = {
    "28 pixels": (arrays(28), r"images of 28 pixels; take the file of 64, 128 or 224"),
    "another size": (arrays(60), r"images of 60 pixels; take the file of 64, 128 or 224"),
    "colours": (
        changed("train_images", lambda a: np.stack([a] * 3, axis=3))
        | {"val_images": np.zeros((3, 64, 64, 3), dtype=np.uint8)},
        r"must be uint8 of shape \(n, size, size\), not uint8 of shape \(10, 64, 64, 3\)",
    ),
    "floats": (changed("test_images", lambda a: a / 255), "not float64"),
    "several labels": (
        changed("train_labels", lambda a: np.zeros((len(a), 14), dtype=np.uint8)),
        "its labels are not 0 and 1",
    ),
    "more classes": (changed("test_labels", lambda a: a * 2), "its labels are not 0 and 1"),
    "one class": (changed("test_labels", lambda a: a * 0), "5 are NORMAL; each class needs"),
    "a label less": (changed("test_labels", lambda a: a[1:]), "5 images with 4 labels"),
    "no val": (without("val_images"), "is no PneumoniaMNIST file: it has no val_images"),
    "objects": (changed("train_labels", lambda a: a.astype(object)), "train_labels cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_file_is_refused(
    case: str, tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    content, reason = REFUSED[case]
    settings = settings_for(params, path=str(saved(tmp_path / "a.npz", content)))
    with pytest.raises(UserError, match=rf"data\.path: .*{reason}"):
        collected(settings, tmp_path, out)


def test_a_file_that_is_damaged_or_none_is_named(
    tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    path = saved(tmp_path / "a.npz", arrays())
    whole = path.read_bytes()
    settings = settings_for(params, path=str(path))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.npz is not a readable zip archive"):
        collected(settings, tmp_path, out)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive, zipfile.ZipFile(path, "w") as cut:
        for name in archive.namelist():
            content = archive.read(name)
            cut.writestr(
                name, content[: len(content) // 2] if name == "val_images.npy" else content
            )
    with pytest.raises(UserError, match="val_images cannot be read"):
        collected(settings, tmp_path, out)
    path.write_bytes(whole)
    small = settings.model_copy(update={"max_unpacked_gib": 1e-5})
    with pytest.raises(UserError, match=r"data\.max_unpacked_gib"):
        collected(small, tmp_path, out)
    with pytest.raises(UserError, match="is a folder"):
        collected(settings.model_copy(update={"path": str(tmp_path)}), tmp_path, out)


def test_the_file_is_downloaded_once_and_checked(
    tmp_path: Path, out: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(params, medmnist={"image_size": 128})
    reader = reader_of(settings)
    assert reader.downloaded(settings) is None
    assert "128 pixels will be downloaded" in reader.describe_download(settings)
    assert sum(reader.count_train(settings, tmp_path).values()) == 4708 + 524
    saved(tmp_path / "served.npz", arrays(128))
    content = (tmp_path / "served.npz").read_bytes()
    asked: list[str] = []

    def serve(url: str, name: str, md5: str) -> Path:
        asked.append(f"{url} {name} {md5}")
        file = downloads.cache_folder() / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    monkeypatch.setattr(downloads, "download", serve)
    assert len(collected(settings, tmp_path, out)) == sum(COUNTS.values())
    (call,) = asked
    assert call == (
        "https://zenodo.org/records/10519652/files/pneumoniamnist_128.npz?download=1 "
        "pneumoniamnist_128.npz 05b46931834c231683c68f40c47b2971"
    )
    assert reader.downloaded(settings) == downloads.cache_folder() / "pneumoniamnist_128.npz"


def test_images_of_the_real_archive_come_back_from_this_form(
    archive: Path, tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    """Ten of each split and class, reduced to 64 pixels."""
    content: dict[str, list[Any]] = {}
    taken: dict[tuple[str, str], int] = {}
    for (split, label, _), entry in list_archive_images(archive, 1 << 33).images.items():
        if taken.setdefault((split, label), 0) < 10:
            part = "val" if split == "train" and taken[split, label] < 2 else split
            taken[split, label] += 1
            with entry.open() as stream:
                image = decode_grey(io.BytesIO(stream.read()), size=64)
            content.setdefault(f"{part}_images", []).append(image)
            content.setdefault(f"{part}_labels", []).append([CLASSES.index(label)])
    path = saved(tmp_path / "a.npz", {k: np.array(v, dtype=np.uint8) for k, v in content.items()})
    table = collected(settings_for(params, path=str(path)), tmp_path, out)
    assert table.groupby(["split", "label"]).size().tolist() == [10, 10, 10, 10]
    images = [image for part in ("train", "val", "test") for image in content[f"{part}_images"]]
    written = [decode_grey(out / file) for file in table["file"]]
    assert {image.tobytes() for image in written} == {image.tobytes() for image in images}
