"""Somebody's own images: folders of any names, patients from paths, splits of every kind."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from src.common.errors import UserError
from src.config.data import DataSettings
from src.config.settings import parse_settings
from src.data.decode import decode_grey
from src.data.folder import number_patients, original_path, select_images
from src.data.kermany import list_archive_images
from src.data.patients import patient_of
from src.data.sources import reader_of
from tests.conftest import collected, png_bytes, write_folder, write_zip

Files = dict[str, bytes]
SECRET = "Erika Mustermann"


def settings_for(params: dict[str, Any], path: Path | str, **changes: Any) -> DataSettings:
    params["data"].update({"source": "folder", "path": str(path), **changes})
    return parse_settings(params).data


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def split_files(*folders: str, each: int = 2) -> Files:
    """Images that differ, so many in each folder."""
    return {
        f"{folder}/{number}.png": png_bytes(100 * index + number)
        for index, folder in enumerate(folders)
        for number in range(each)
    }


PLAIN = split_files("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA")
NAMES = {"normal": ["normal", "*health*"], "pneumonia": ["Pneumonia", "pne*/chest"]}
# Names of four folders in which the same images may lie: normal and sick, to train and to test.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "split above": ("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA"),
    "split below": ("Normal/train", "PNEUMONIA/train", "Normal/test", "pneumonia/Test"),
    "deep": tuple(
        f"export/2020/{split}/site a/{label}/study/series"
        for split in ("Training", "testing")
        for label in ("Healthy lungs", "pneumonia")
    ),
    "a path of folders": ("train/normal", "train/pne 1/chest", "test/normal", "test/pne 2/chest"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_every_nesting_gives_the_same_images(
    layout: str,
    write: Callable[[Path, Files], Path],
    tmp_path: Path,
    out: Path,
    params: dict[str, Any],
) -> None:
    files = split_files(*LAYOUTS[layout])
    settings = settings_for(params, write(tmp_path / "in.zip", files), classes=NAMES)
    table = collected(settings, tmp_path, out)
    pixels = {
        part: {decode_grey(out / file).tobytes() for file in rows["file"]}
        for part, rows in table.groupby(["split", "label"])
    }
    for index, part in enumerate(
        [("train", "NORMAL"), ("train", "PNEUMONIA"), ("test", "NORMAL"), ("test", "PNEUMONIA")]
    ):
        contents = [png_bytes(100 * index + number) for number in range(2)]
        assert pixels[part] == {decode_grey(io.BytesIO(content)).tobytes() for content in contents}
    assert reader_of(settings).count_train(settings, tmp_path) == {"NORMAL": 2, "PNEUMONIA": 2}


def test_other_labels_are_left_aside_and_counted_by_name_on_stderr(
    tmp_path: Path, out: Path, params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    files = PLAIN | split_files("train/COVID/p1", "train/COVID/p2", "test/Lung opacity", each=3)
    files |= split_files("val/NORMAL") | {"train/NORMAL/a.nii": b"x", "notes.txt": b"x"}
    files["loose.png"] = png_bytes(9)
    table = collected(settings_for(params, write_folder(tmp_path / "in", files)), tmp_path, out)
    assert len(table) == len(PLAIN)
    shown = capsys.readouterr()
    assert "neither class: 6 in COVID, 3 in Lung opacity, 1 in no folder" in shown.err
    assert "left aside: 1 .txt, 1 .nii; images end in" in shown.err
    assert "left aside: 2 images of the val split" in shown.out
    assert "COVID" not in shown.out


REFUSED: dict[str, tuple[Files, dict[str, Any], str]] = {
    "both classes": (
        PLAIN | {"train/NORMAL/pneumonia/1.png": b""},
        {},
        r"data\.classes: the folders of train/NORMAL/pneumonia/1\.png fit NORMAL and PNEUMONIA",
    ),
    "an empty class": (
        split_files("train/NORMAL", "test/NORMAL"),
        {},
        r"data\.classes\.pneumonia: .*in has no image in a folder called PNEUMONIA",
    ),
    "an empty split of a class": (
        {name: content for name, content in PLAIN.items() if not name.startswith("test/N")},
        {},
        r"data\.path: .*in has no image in test/NORMAL",
    ),
    "no image": ({"notes.txt": b"x"}, {}, r"data\.classes\.normal: .*in has no image"),
    "two splits": (PLAIN, {"test_share": 0.2}, r"data\.test_share: .*has train and test folders"),
    "no split": (
        split_files("NORMAL", "PNEUMONIA"),
        {},
        r"data\.test_share: .*has no train and test folders; set the share",
    ),
    "half a split": (PLAIN | split_files("NORMAL"), {}, r"NORMAL/0\.png has no split, as others"),
    "a pattern for nothing": (
        PLAIN,
        {"patient_pattern": "x([0-9]+)"},
        r"data\.patient_pattern: 'x\(\[0-9\]\+\)' fits no image's path, such as test/NORMAL/0",
    ),
    "too little to split": (
        split_files("NORMAL", "PNEUMONIA", each=1),
        {"test_share": 0.5},
        r"data\.path: .*has no image in test/NORMAL, test/PNEUMONIA",
    ),
    "too much": (PLAIN, {"max_unpacked_gib": 1e-6}, r"data\.max_unpacked_gib"),
    "changed": (PLAIN, {"sha256": "0" * 64}, r"data\.sha256: .* has the checksum"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_by_name(
    case: str, tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    files, changes, reason = REFUSED[case]
    settings = settings_for(params, write_folder(tmp_path / "in", files), **changes)
    with pytest.raises(UserError, match=reason):
        collected(settings, tmp_path, out)
    assert not list(out.rglob("*.png"))


def test_a_path_that_is_not_there_is_named(tmp_path: Path, params: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"data\.path: .*absent: there is no such file or folder"):
        select_images(settings_for(params, "absent"), tmp_path)


def of_patients(patients: int, each: int) -> Files:
    """Images of so many patients of each class, named by patient and number."""
    return {
        f"{label}/{label[0]}{patient:03d}_{number}.png": png_bytes(patient + 1000 * number)
        for label in ("NORMAL", "PNEUMONIA")
        for patient in range(patients * (1 if label == "NORMAL" else 3))
        for number in range(each)
    }


def split_of(params: dict[str, Any], path: Path, **changes: Any) -> pd.DataFrame:
    """Which split, class and patient each path has."""
    images = select_images(settings_for(params, path, **changes), path.parent)
    return pd.DataFrame(
        [
            (image.entry.path.as_posix(), image.split, image.label, image.patient)
            for image in images
        ],
        columns=["path", "split", "label", "patient"],
    )


def test_the_split_is_by_patient_and_of_the_same_share_in_each_class(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    path = write_folder(tmp_path / "in", dict.fromkeys(of_patients(20, 3), b"x"))
    choices = {"patient_pattern": r"/([NP]\d+)_", "test_share": 0.2}
    table = split_of(params, path, **choices)
    assert (table.groupby("patient")["split"].nunique() == 1).all()
    assert table["patient"].nunique() == 80
    shares = (table["split"] == "test").groupby(table["label"]).mean()
    assert shares.to_dict() == {"NORMAL": 0.2, "PNEUMONIA": 0.2}
    again, other = split_of(params, path, **choices), split_of(params, path, seed=8, **choices)
    assert table.equals(again)
    assert not table["split"].equals(other["split"])


def test_a_patient_of_both_classes_is_in_one_split(tmp_path: Path, params: dict[str, Any]) -> None:
    files = {
        f"{label}/p{patient}/{number}.png": b"x"
        for label, first in (("NORMAL", 0), ("PNEUMONIA", 10))
        for patient in range(first, first + 20)
        for number in range(2)
    }
    path = write_folder(tmp_path / "in", files)
    for seed in range(5):
        table = split_of(params, path, patient_pattern=r"p\d+", test_share=0.3, seed=seed)
        assert (table.groupby("patient")["split"].nunique() == 1).all()
        assert table.groupby("label")["split"].value_counts().to_dict() == {
            ("NORMAL", "train"): 28,
            ("NORMAL", "test"): 12,
            ("PNEUMONIA", "train"): 28,
            ("PNEUMONIA", "test"): 12,
        }


def test_an_image_without_a_patient_is_one_of_its_own(
    tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    files = PLAIN | {"train/NORMAL/p7_1.png": png_bytes(8), "test/NORMAL/p7_2.png": png_bytes(9)}
    path = write_folder(tmp_path / "in", files)
    settings = settings_for(params, path, patient_pattern=r"/(p\d+)_")
    records = list(reader_of(settings).collect(settings, tmp_path, out))
    known = [record.patient for record in records if record.has_patient]
    assert len(known) == 2  # of one patient, in both splits
    assert len(set(known)) == 1
    assert len({record.patient for record in records}) == len(PLAIN) + 1


def test_numbers_of_patients_do_not_follow_their_ids(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    path = write_folder(tmp_path / "in", dict.fromkeys(of_patients(100, 1), b"x"))
    choices = {"patient_pattern": r"/([NP]\d+)_", "test_share": 0.2}
    images = select_images(settings_for(params, path, **choices), tmp_path)
    numbers = number_patients(images, 7)
    order = [number for _, number in sorted(numbers.items())]
    assert sorted(order) == list(range(400))
    rank = np.corrcoef(order, np.arange(400))[0, 1]
    assert abs(rank) < 0.2  # 4 standard errors of independent orders
    assert number_patients(images, 7) == numbers != number_patients(images, 8)


def tagged(mode: str, kind: str, seed: int = 3, secret: str = SECRET) -> bytes:
    """An image that names somebody wherever its format lets it."""
    values = np.random.default_rng(seed).integers(0, 65536, (40, 40))
    array = values.astype(np.uint16) if mode == "I;16" else (values // 256).astype(np.uint8)
    image, stream = Image.fromarray(array), io.BytesIO()
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = secret, secret  # ImageDescription, Artist
    text = PngInfo()
    text.add_text("PatientName", secret)
    extra = {"PNG": {"pnginfo": text}, "JPEG": {"comment": secret.encode()}}.get(kind, {})
    image.save(stream, kind, exif=exif, **extra)
    assert secret.encode() in stream.getvalue()
    return stream.getvalue()


def test_no_name_of_the_source_leaves_it(
    tmp_path: Path, out: Path, params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        f"{SECRET}/{split}/{label}/{SECRET} {number}.{kind}": tagged(
            "I;16" if kind in ("tif", "png") else "L",
            {"jpg": "JPEG", "tif": "TIFF"}.get(kind, "PNG"),
        )
        for split in ("train", "test")
        for label in ("NORMAL", "PNEUMONIA")
        for number, kind in enumerate(("png", "jpg", "tif"))
    }
    files[f"{SECRET}/train/NORMAL/{SECRET}.png"] = b"broken"
    path = write_zip(tmp_path / "in.zip", files)
    table = collected(settings_for(params, path, patient_pattern=f"{SECRET}(?= )"), tmp_path, out)
    assert len(table) == 13
    shown = capsys.readouterr()
    assert SECRET not in table.to_csv() + shown.out
    for file in out.rglob("*"):
        assert re.fullmatch(r"\d{6}\.png|train|test|NORMAL|PNEUMONIA", file.name)
        assert file.is_dir() or SECRET.encode() not in file.read_bytes()
        if file.is_file() and file.stat().st_size:
            with Image.open(file) as image:
                assert image.info == {}
    (bad,) = table[table["width"] == 0].itertuples()
    assert f"{SECRET}.png is a bad image, {bad.file}: it cannot be identified" in shown.err


def test_the_original_of_a_number_is_found_again(
    tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    settings = settings_for(params, write_zip(tmp_path / "in.zip", PLAIN))
    for file in collected(settings, tmp_path, out)["file"]:
        original = PLAIN[original_path(settings, tmp_path, int(Path(file).stem))]
        assert np.array_equal(decode_grey(out / file), decode_grey(io.BytesIO(original)))
    with pytest.raises(UserError, match="there is no image 8; the last one is 7"):
        original_path(settings, tmp_path, 8)


def test_deep_images_stay_deep_and_become_the_same_grey(
    tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    files = split_files("train/NORMAL", "train/PNEUMONIA", "test/PNEUMONIA")
    deep = tagged("I;16", "TIFF")
    files["test/NORMAL/1.tif"] = deep
    table = collected(settings_for(params, write_folder(tmp_path / "in", files)), tmp_path, out)
    (row,) = table[table["mode"] != "L"].itertuples()
    assert row.mode == "I;16"
    with Image.open(out / row.file) as written, Image.open(io.BytesIO(deep)) as original:
        assert np.array_equal(np.asarray(written), np.asarray(original))
    assert np.array_equal(decode_grey(out / row.file), decode_grey(io.BytesIO(deep)))


def test_the_real_archive_is_read_as_by_its_own_source(
    archive: Path, tmp_path: Path, params: dict[str, Any]
) -> None:
    """With a pattern that finds the patients of Kaggle's names."""
    pattern = r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)[^/]*$"
    images = select_images(settings_for(params, archive, patient_pattern=pattern), tmp_path)
    table = pd.DataFrame([(i.split, i.label, i.patient) for i in images], columns=["s", "l", "p"])
    listing = list_archive_images(archive, 1 << 33)
    sizes = table.groupby(["s", "l"]).size().to_dict()
    assert sizes == {(s, c): n for s, row in listing.counts().items() for c, n in row.items()}
    known = {patient_of(name) for _, _, name in listing.images}
    assert table["p"].nunique() == len(known)
    assert "" not in set(table["p"])
