"""The recipes of docs/howto/public-sets.md read small stand-ins of the sets that they are for."""

import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from src.config.data import DataSettings
from src.data.folder import select_images
from src.data.sources import recognise_source
from tests.conftest import ROOT, write_folder, write_zip
from tests.data.dicom_files import dicom_bytes, radiograph
from tests.data.test_folder import settings_for

PAGE = (ROOT / "docs" / "howto" / "public-sets.md").read_text(encoding="utf-8")


def recipe(title: str, path: Path, params: dict[str, Any]) -> DataSettings:
    """The data section of a recipe, with another path."""
    text = re.search(rf"^## {re.escape(title)}\n.*?^```yaml\n(.*?)^```", PAGE, re.S | re.M)
    assert text is not None, title
    stated = YAML(typ="safe").load(text[1])["data"]
    table = params["data"]["table"] | stated.pop("table", {})
    return settings_for(params, **stated | {"path": path, "table": table})


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def counted(settings: DataSettings) -> Counter[tuple[str, str]]:
    return Counter((image.split, image.label) for image in select_images(settings, ROOT))


@pytest.mark.parametrize("is_zip", [True, False])
def test_rsna(
    tmp_path: Path, params: dict[str, Any], caplog: pytest.LogCaptureFixture, is_zip: bool
) -> None:
    kinds = ["Normal"] * 10 + ["Lung Opacity"] * 10 + ["No Lung Opacity / Not Normal"] * 3
    classes, boxes = "patientId,class\n", "patientId,x,y,width,height,Target\n"
    files = {}
    for number, kind in enumerate(kinds):
        name = f"0004cfab-14fd-4e49-80ba-{number:012d}"
        rows = 2 if kind == "Lung Opacity" else 1  # as many as boxes
        classes += f"{name},{kind}\n" * rows
        has_box = kind == "Lung Opacity"
        boxes += f"{name},{'264.0,152.0,213.0,379.0,1' if has_box else ',,,,0'}\n" * rows
        tags = {"Modality": "CR", "ViewPosition": "AP", "PatientID": name}
        files[f"stage_2_train_images/{name}.dcm"] = dicom_bytes(radiograph(bits=8), 8, **tags)
    for number in range(2):
        name = f"stage_2_test_images/0000a175-0e68-4ca4-b1af-{number:012d}.dcm"
        files[name] = dicom_bytes(radiograph(bits=8), 8, Modality="CR")
    tables = {"detailed_class_info": classes, "train_labels": boxes}
    files |= {f"stage_2_{name}.csv": text.encode() for name, text in tables.items()}
    path = (write_zip if is_zip else write_folder)(tmp_path / "rsna.zip", files)
    assert recognise_source(path) == "folder"
    settings = recipe("RSNA Pneumonia Detection Challenge", path, params)
    images = select_images(settings, ROOT)
    assert Counter(image.label for image in images) == {"NORMAL": 10, "PNEUMONIA": 10}
    assert counted(settings)["test", "NORMAL"] == counted(settings)["test", "PNEUMONIA"] == 2
    assert len({image.patient for image in images}) == 20
    told = caplog.text
    assert "left aside: 2 images that the table does not name" in told
    assert "3 No Lung Opacity / Not Normal" in told
    # The table of boxes, as the page says below.
    table = settings.table.model_copy(
        update={"path": "stage_2_train_labels.csv", "label": "Target"}
    )
    classes_by_box = settings.classes.model_copy(update={"normal": ("0",), "pneumonia": ("1",)})
    by_box = settings.model_copy(update={"table": table, "classes": classes_by_box})
    labels = Counter(image.label for image in select_images(by_box, ROOT))
    assert labels == {"NORMAL": 13, "PNEUMONIA": 10}


def test_nih(tmp_path: Path, params: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    head = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
    head += "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
    findings = ["No Finding", "Pneumonia|Infiltration", "Cardiomegaly", "Pneumonia"]
    files, table, test = {}, head, ""
    for number in range(24):
        patient, finding = number // 2 + 1, findings[number // 2 % 4]
        name = f"{patient:08d}_{number % 2:03d}.png"
        table += f"{name},{finding},0,{patient},058Y,M,PA,2682,2749,0.143,0.143,\n"
        files[f"images_{1 + number // 12:03d}/images/{name}"] = png(number)
        test += f"{name}\n" if patient > 8 else ""
    files |= {"Data_Entry_2017_v2020.csv": table.encode(), "test_list.txt": test.encode()}
    settings = recipe("NIH ChestX-ray14", write_folder(tmp_path / "nih", files), params)
    assert counted(settings) == {
        ("train", "NORMAL"): 4,
        ("train", "PNEUMONIA"): 8,
        ("test", "NORMAL"): 2,
        ("test", "PNEUMONIA"): 4,
    }
    images = select_images(settings, ROOT)
    assert {image.patient for image in images if image.split == "test"} == {"9", "10", "12"}
    assert "6 Cardiomegaly" in caplog.text


def test_covid(tmp_path: Path, params: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    root = "COVID-19_Radiography_Dataset"
    files = {
        f"{root}/{kind}/{part}/{kind}-{number}.png": png(number)
        for kind in ("COVID", "Normal", "Lung_Opacity", "Viral Pneumonia")
        for part in ("images", "masks")
        for number in range(10)
    }
    files[f"{root}/Normal.metadata.xlsx"] = b"PK"
    settings = recipe("COVID-19 Radiography Database", write_zip(tmp_path / "c.zip", files), params)
    assert counted(settings) == {
        (split, label): count
        for split, count in (("train", 8), ("test", 2))
        for label in ("NORMAL", "PNEUMONIA")
    }
    assert all("/images/" in image.entry.path.as_posix() for image in select_images(settings, ROOT))
    assert "left aside, images of neither class" in caplog.text
