"""Somebody's own images by the stages: what reaches DVC, MLflow and what is printed."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.data.classes import CLASSES, SPLITS
from tests.conftest import png_bytes, write_folder, write_zip
from tests.data.dicom_files import Tokens, planted_bytes, radiograph
from tests.data.test_folder import SECRET, tagged
from tests.pipeline.project import Project

pytestmark = pytest.mark.long

NAME = SECRET[::-1]  # which stands in no file of the project, tests included


def holding(folder: Path, secret: bytes) -> list[str]:
    """The files below a folder whose name or content has a secret."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [str(file) for file in files if secret in str(file).encode() + file.read_bytes()]


def test_no_name_of_a_patient_leaves_the_source(tmp_path: Path) -> None:
    """Neither from folders and files, nor from what stands beside the pixels."""
    project = Project.cloned(tmp_path / "project")
    files = {
        f"{NAME}/{split}/{label}/{NAME} {number}.png": tagged(
            "I;16", "PNG", seed=number, secret=NAME
        )
        for part, (split, label) in enumerate(product(SPLITS, CLASSES))
        for number in range(100 * part, 100 * part + (24 if split == "train" else 16))
    }
    files[f"{NAME}/train/NORMAL/{NAME}.png"] = b"broken"
    source = write_folder(tmp_path / "source", files)
    assert holding(source, NAME.encode())

    def edit(params: Any) -> None:
        params["data"].update(source="folder", path=str(source), patient_pattern="[A-Za-z ]+[0-9]+")
        params["preprocess"]["on_bad_image"] = "skip"

    project.change(edit)
    output = project.repro("preprocess")
    named = [line for line in output.splitlines() if NAME in line]
    assert len(named) == 1
    assert named[0].startswith("warning: ")
    assert "is a bad image, train/NORMAL/" in named[0]
    assert len(list((project.path / "data" / "images").rglob("*.png"))) == 81
    assert (project.path / "mlflow.db").is_file()
    assert not holding(project.path, NAME.encode())
    assert not holding(project.path, NAME.partition(" ")[0].encode())


# In no file of the project in this form, tests included.
TOKENS = Tokens(NAME.split()[0], "1.2.276.90817263.5"[::-1], "81914281"[::-1], "361590472"[::-1])


def dicom_export() -> dict[str, bytes]:
    """A hospital's files of two classes, which name somebody wherever a file can."""
    pixels = radiograph((64, 64), 12)
    planted = planted_bytes(pixels, 12, TOKENS)
    nobody = f"{TOKENS.name}{0:06d}".encode()
    files = {}
    for part, (split, label) in enumerate(product(SPLITS, CLASSES)):
        for number in range(100 * part, 100 * part + (24 if split == "train" else 16)):
            content = planted.replace(nobody, f"{TOKENS.name}{number:06d}".encode())
            own = radiograph((64, 64), 12, number).tobytes()
            name = f"{TOKENS.name}/{split}/{label}/{TOKENS.name}{number}"
            files[name + (".dcm" if number % 2 else "")] = content.replace(pixels.tobytes(), own)
    files[f"{TOKENS.name}/train/NORMAL/{TOKENS.name}.dcm"] = planted[:-1000]
    files[f"{TOKENS.name}/DICOMDIR"] = planted
    return files


def chunks_of(png: bytes) -> set[bytes]:
    """The kinds of chunks in a PNG file."""
    kinds, position = set(), 8
    while position < len(png):
        kinds.add(png[position + 4 : position + 8])
        position += 12 + int.from_bytes(png[position : position + 4], "big")
    return kinds


def test_no_tag_of_a_dicom_file_leaves_the_source(tmp_path: Path) -> None:
    """Nor a name of a file or folder; all bytes that the stages write are searched."""
    project = Project.cloned(tmp_path / "project")
    source = write_folder(tmp_path / "source", dicom_export())
    for token in TOKENS:
        assert len(holding(source, token.encode())) == 82

    def edit(params: Any) -> None:
        params["data"].update(source="folder", path=str(source))
        params["preprocess"]["on_bad_image"] = "skip"

    project.change(edit)
    output = project.repro("preprocess")
    named = [line for line in output.splitlines() if TOKENS.name in line]
    assert len(named) == 1
    assert named[0].startswith("warning: ")
    assert "is a bad image, train/NORMAL/" in named[0]
    assert named[0].endswith("its pixel data is cut off")
    assert not [token for token in TOKENS[1:] if token in output]
    images = list((project.path / "data" / "images").rglob("*.png"))
    assert len(images) == 81
    written = [image.read_bytes() for image in images if image.stat().st_size]
    assert len(set(written)) == len(written) == 80
    assert all(chunks_of(png) == {b"IHDR", b"IDAT", b"IEND"} for png in written)
    fetched = json.loads((project.path / "reports/metrics/fetch.json").read_text())
    assert fetched["patients"]["train"]["NORMAL"] == 24
    assert fetched["images_without_patient"] == 0
    for kept in ("mlflow.db", "data/images.csv", "data/arrays/table.csv", ".dvc/cache"):
        assert (project.path / kept).exists()
    for token in TOKENS:
        assert not holding(project.path, token.encode()), token
    # A name that did leave would be found, in a table as in an image.
    for leak in ("data/arrays/table.csv", images[0].relative_to(project.path)):
        with (project.path / leak).open("ab") as stream:
            stream.write(TOKENS.name.encode())
        assert str(project.path / leak) in holding(project.path, TOKENS.name.encode())
        with (project.path / leak).open("rb+") as stream:
            stream.truncate(stream.seek(0, 2) - len(TOKENS.name))


def of_table(folder: Path) -> dict[str, Any]:
    """Images in one folder, of which a table tells labels and patients."""
    files = {f"{number}.png": png_bytes(number) for number in range(160)}
    files["labels.csv"] = "\n".join(
        ["id,finding,who"]
        + [f"{n},{'Pneumonia' if n % 2 else 'No Finding'}|Mass,{n // 2}" for n in range(160)]
    ).encode()
    columns = {"path": "labels.csv", "image": "{id}.png", "label": "finding", "patient": "who"}
    return {
        "source": "folder",
        "path": str(write_zip(folder / "own.zip", files)),
        "classes": {"normal": ["no finding"], "pneumonia": ["pneumonia"]},
        "table": columns | {"label_separator": "|", "split": ""},
        "test_share": 0.4,
    }


def of_arrays(folder: Path) -> dict[str, Any]:
    """A file in the form of PneumoniaMNIST."""
    rng = np.random.default_rng(1)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 60), ("val", 12), ("test", 48)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 64, 64), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count)[:, None] % 2
    np.savez(folder / "own.npz", **arrays)
    return {"source": "medmnist", "path": str(folder / "own.npz")}


@pytest.mark.parametrize(
    ("make", "known", "licence"),
    [(of_table, True, "as its owner states"), (of_arrays, False, "CC BY 4.0")],
)
def test_a_source_goes_all_the_way_to_the_report(
    make: Callable[[Path], dict[str, Any]], known: bool, licence: str, tmp_path: Path
) -> None:
    project = Project.cloned(tmp_path / "project")
    data = make(tmp_path)

    def edit(params: Any) -> None:
        for key, value in data.items():
            params["data"][key] = value

    project.change(edit)
    output = project.repro()
    assert ("each image counts as a patient of its own" in output) != known
    card = (project.path / "reports" / "model-card.md").read_text()
    assert f"({licence})" in card
    assert ("Each counts as a patient of its own" in card) != known
    fetched = json.loads((project.path / "reports/metrics/fetch.json").read_text())
    assert fetched["images"] == {
        "train": {"NORMAL": 48, "PNEUMONIA": 48} if known else {"NORMAL": 36, "PNEUMONIA": 36},
        "test": {"NORMAL": 32, "PNEUMONIA": 32} if known else {"NORMAL": 24, "PNEUMONIA": 24},
    }
