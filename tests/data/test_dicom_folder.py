"""DICOM files in a folder or archive: which are taken, whose they are, and what is said of them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.common.errors import UserError
from src.data.dicom import decode_dicom
from src.data.folder import FOLDER, original_path, select_images
from src.data.sources import recognise_source
from tests.conftest import ROOT, collected, write_folder, write_zip
from tests.data.dicom_files import dicom_bytes, radiograph
from tests.data.test_folder import PLAIN, Files, settings_for, split_of

WRITE = [write_zip, write_folder]
PARTS = ("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def xray(seed: int, bits: int = 12, **tags: Any) -> bytes:
    """A radiograph of a patient of its own."""
    own = {"PatientID": f"P{seed}", "StudyInstanceUID": f"1.2.{seed}"}
    return dicom_bytes(radiograph(bits=bits, seed=seed), bits, **own | tags)


def export(*names: str, **tags: Any) -> Files:
    """Such files in each split and class."""
    return {
        f"{part}/{name}": xray(10 * index + number, **tags)
        for index, part in enumerate(PARTS)
        for number, name in enumerate(names)
    }


@pytest.mark.parametrize("write", WRITE)
def test_files_are_known_by_suffix_or_mark(
    write: Callable[[Path, Files], Path],
    tmp_path: Path,
    out: Path,
    params: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ("1.dcm", "2.DICOM", "3.ima", "IM000001", "1.2.840.10008.77", "a/b.c/x.y")
    files = export(*names) | PLAIN
    files |= {"DICOMDIR": xray(90), "train/NORMAL/DICOMDIR": xray(91), "short": b"DICM"}
    files |= {"train/NORMAL/notes.txt": b"x" * 128 + b"DIGM and more"}
    path = write(tmp_path / "in.zip", files)
    table = collected(settings_for(params, path), tmp_path, out)
    assert len(table) == 4 * len(names) + len(PLAIN)
    assert (table["width"] > 0).all()
    assert "left aside: 3 no suffix, 1 .txt; images end in" in capsys.readouterr().err
    assert FOLDER.recognise(path).startswith("32 images (24 DICOM), whose classes, patients and")


def test_an_export_is_told_from_other_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where its folders have Kermany's names."""
    path = write_folder(tmp_path / "in", export("1.dcm", "IM2"))
    assert recognise_source(path) == "folder"
    assert "8 images (8 DICOM), whose classes" in capsys.readouterr().out


@pytest.mark.parametrize("write", WRITE)
def test_pixels_become_png_files_of_the_same_depth(
    write: Callable[[Path, Files], Path], tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    files = export("deep.dcm") | {f"{part}/flat.dcm": xray(50 + len(part), 8) for part in PARTS}
    settings = settings_for(params, write(tmp_path / "in.zip", files))
    table = collected(settings, tmp_path, out)
    for row in table.itertuples():
        original = original_path(settings, tmp_path, int(Path(row.file).stem))
        with Image.open(out / row.file) as image:
            assert image.mode == ("L" if "flat" in original else "I;16")
            assert image.info == {}
            assert np.array_equal(np.asarray(image), decode_dicom(files[original]))
    assert sorted(table["mode"]) == 4 * ["I;16"] + 4 * ["L"]


def test_what_the_headers_lack_is_counted_and_lateral_views_are_left_aside(
    tmp_path: Path, params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    files = export("1.dcm", "2.dcm") | export("3.dcm", ViewPosition="LATERAL")
    files |= export("4.dcm", ViewPosition=None, BurnedInAnnotation=None)
    images = select_images(settings_for(params, write_folder(tmp_path / "in", files)), tmp_path)
    assert {image.entry.path.name for image in images} == {"1.dcm", "2.dcm", "4.dcm"}
    shown = capsys.readouterr().out
    assert "left aside: 4 lateral views\n" in shown
    assert "ViewPosition is missing in 4 of 16 DICOM files\n" in shown
    assert "BurnedInAnnotation is missing in 4 of 16 DICOM files\n" in shown
    assert shown.count("is missing") == 2


def test_a_bad_file_is_named_on_stderr_and_becomes_an_empty_image(
    tmp_path: Path, out: Path, params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    files = export("1.dcm", "2.dcm")
    files["train/NORMAL/burned"] = xray(1, BurnedInAnnotation="YES")
    files["train/NORMAL/broken.dcm"] = b"\0" * 128 + b"DICM damaged"
    table = collected(settings_for(params, write_folder(tmp_path / "in", files)), tmp_path, out)
    bad = table[table["width"] == 0]["file"]
    assert [(out / file).stat().st_size for file in bad] == [0, 0]
    shown = capsys.readouterr()
    named = [line for line in shown.err.splitlines() if "is a bad image" in line]
    assert len(named) == 2
    assert any(
        "NORMAL/burned is" in line and "burned-in text (0028,0301)" in line for line in named
    )
    assert any("NORMAL/broken.dcm is a bad image" in line for line in named)
    assert "burned" not in shown.out


# Patients


def of_patients() -> Files:
    """Two studies of each of ten patients of each class, in no split."""
    return {
        f"{label}/{patient}_{study}": xray(
            100 * index + 10 * study + patient, PatientID=f"{label[0]}{patient}"
        )
        for index, label in enumerate(("NORMAL", "PNEUMONIA"))
        for patient in range(10)
        for study in range(2)
    }


def test_the_headers_give_the_patients(tmp_path: Path, params: dict[str, Any]) -> None:
    path = write_folder(tmp_path / "in", of_patients())
    table = split_of(params, path, test_share=0.3)
    assert table["patient"].nunique() == 20
    assert (table.groupby("patient")["split"].nunique() == 1).all()
    assert (table.groupby("patient").size() == 2).all()
    assert table["split"].value_counts().to_dict() == {"train": 28, "test": 12}


def test_a_pattern_goes_before_the_headers(tmp_path: Path, params: dict[str, Any]) -> None:
    path = write_folder(tmp_path / "in", of_patients())
    table = split_of(params, path, test_share=0.3, patient_pattern=r"/(\d)_")
    assert set(table["patient"]) == set("0123456789")
    some = split_of(params, path, test_share=0.3, patient_pattern=r"/([0-4])_")
    assert set(some["patient"]) == {
        *"01234",
        *(f"{label}{n}" for label in "NP" for n in range(5, 10)),
    }


@pytest.mark.parametrize(("column", "patients"), [("who", {"a", "b"}), ("", {"P0", "P1"})])
def test_a_table_s_column_goes_before_the_headers(
    column: str, patients: set[str], tmp_path: Path, params: dict[str, Any]
) -> None:
    """And a table names the files by their ids alone, as RSNA's does."""
    files = {f"stage/{number}.dcm": xray(number, PatientID=f"P{number % 2}") for number in range(8)}
    rows = [
        f"{n},{'x' if n % 4 < 2 else 'y'},{'ab'[n % 2]},{'train' if n < 4 else 'test'}"
        for n in range(8)
    ]
    files["labels.csv"] = "\n".join(["patientId,Target,who,part", *rows]).encode()
    table = {"path": "labels.csv", "image": "{patientId}.dcm", "label": "Target", "split": "part"}
    table |= {"label_separator": "", "patient": column}
    images = select_images(
        settings_for(
            params,
            write_zip(tmp_path / "in.zip", files),
            classes={"normal": ["x"], "pneumonia": ["y"]},
            table=table,
        ),
        tmp_path,
    )
    assert len(images) == 8
    assert {image.patient for image in images} == patients


def test_a_file_without_an_id_is_a_patient_of_its_own(
    tmp_path: Path, out: Path, params: dict[str, Any]
) -> None:
    files = (
        export("1.dcm", "2.dcm") | export("3.dcm", PatientID=None) | export("4.dcm", PatientID="")
    )
    table = collected(settings_for(params, write_folder(tmp_path / "in", files)), tmp_path, out)
    assert (table["patient"] == table["file"]).sum() == 8
    assert table["patient"].nunique() == 16


@pytest.mark.parametrize("studies", [True, False])
def test_one_id_in_all_studies_is_no_patient(
    studies: bool, tmp_path: Path, params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """But in one study it is, and then there is nothing to split."""
    tags = {"PatientID": "ANONYMOUS"} | ({} if studies else {"StudyInstanceUID": "1.2"})
    files = {
        f"{label}/{n}.dcm": xray(n, **tags) for label in ("NORMAL", "PNEUMONIA") for n in range(10)
    }
    settings = settings_for(params, write_folder(tmp_path / "in", files), test_share=0.3)
    if studies:
        images = select_images(settings, tmp_path)
        assert {image.patient for image in images} == {""}
        shown = capsys.readouterr().err
        assert "state the same, in several studies" in shown
        assert "data.patient_pattern" in shown
        assert "ANONYMOUS" not in shown
    else:
        with pytest.raises(UserError, match="has no image in test/NORMAL, test/PNEUMONIA"):
            select_images(settings, tmp_path)


def test_pydicom_is_loaded_for_dicom_files_alone(tmp_path: Path, params: dict[str, Any]) -> None:
    code = """
import sys
from pathlib import Path
from src.data.folder import FOLDER, select_images
from src.config.settings import load_settings
from src.common.paths import PARAMS
path = sys.argv[1]
settings = load_settings(PARAMS, [f"data.path={path}", "data.source=folder"]).data
print(len(select_images(settings, Path(path))), "pydicom" in sys.modules)
"""
    counts = []
    for name, files in {"plain": PLAIN, "both": PLAIN | export("x")}.items():
        path = write_folder(tmp_path / name, files)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        counts.append(done.stdout.split())
    assert counts == [["8", "False"], ["12", "True"]]
