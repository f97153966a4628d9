"""Somebody's own images by the stages: what reaches DVC, MLflow and what is printed."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from src.data.classes import CLASSES, SPLITS
from tests.conftest import write_folder
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
