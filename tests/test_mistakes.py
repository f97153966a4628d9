"""The commonest mistakes: each gets one line that names the thing and the way out."""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import set_value
from tests.pipeline.project import Project

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.cloned(tmp_path_factory.mktemp("mistakes") / "clone")


@pytest.fixture
def project(template: Project, tmp_path: Path) -> Project:
    return template.copied(tmp_path / "clone")


def no_archive(project: Project) -> None:
    project.change(set_value("data", "source", value="kermany"))
    project.change(set_value("data", "path", value="nowhere/chest_xray.zip"))


def other_archive(project: Project) -> None:
    with zipfile.ZipFile(project.path / "photos.zip", "w") as archive:
        archive.writestr("holidays/beach.jpeg", b"x")
    project.change(set_value("data", "source", value="kermany"))
    project.change(set_value("data", "path", value="photos.zip"))


def arrays_of_another_size(project: Project) -> None:
    folder = project.path / "data" / "arrays" / "normal"
    folder.mkdir(parents=True)
    np.save(folder / "train.npy", np.zeros((2, 24, 24), dtype=np.uint8))


def nothing(project: Project) -> None:
    pass


def parameter(*place: str, value: Any) -> Callable[[Project], None]:
    return lambda project: project.change(set_value(*place, value=value))


FETCH = ("-m", "pipeline.fetch")
GENERATE = ("-m", "src.generate", "--out", "out")


@pytest.mark.parametrize(
    ("prepare", "command", "said"),
    [
        (nothing, ("-S", "-E", *GENERATE), ["lacks torch", "make setup", "activate"]),
        (nothing, ("-S", "-E", *FETCH), ["lacks torch", "make setup", "activate"]),
        (nothing, GENERATE, ["models/normal/generator.pt", "dvc repro trains it"]),
        (nothing, ("-m", "src.tune"), ["data/arrays/normal/train.npy", "dvc repro"]),
        (
            arrays_of_another_size,
            ("-m", "src.tune", "--class", "normal"),
            ["preprocess.image_size: 16", "have 24 pixels a side", "dvc repro preprocess"],
        ),
        (nothing, ("-m", "pipeline.fid_eval"), ["data/arrays/table.csv", "dvc repro"]),
        (no_archive, FETCH, ["nowhere/chest_xray.zip", "there is no such file"]),
        (other_archive, FETCH, ["photos.zip", "NORMAL", "train"]),
        (parameter("train", "normal", "epoch", value=3), FETCH, ["train.normal.epoch", "no such"]),
        (
            parameter("train", "normal", "batch_size", value=0),
            FETCH,
            ["train.normal.batch_size", "given: 0"],
        ),
        (
            parameter("train", "normal", "generator", "strides", value=[2, 3]),
            FETCH,
            ["train.normal", "16", "divide"],
        ),
        (parameter("compute", "device", value="gpu"), FETCH, ["compute.device", "'cuda'"]),
        (nothing, ("-m", "src.promote"), ["chest-xray-gan-normal", "dvc repro"]),
    ],
)
def test_a_mistake_is_told_in_one_line(
    project: Project, prepare: Callable[[Project], None], command: tuple[str, ...], said: list[str]
) -> None:
    prepare(project)
    before = sorted(path.name for path in project.path.iterdir())
    output = project.run(sys.executable, *command, good=False)
    assert output.count("error: ") == 1
    assert "Traceback" not in output
    assert len(output.strip().splitlines()) == 1
    for part in said:
        assert part in output
    left = {path.name for path in project.path.iterdir()} - set(before)
    assert left <= {"mlflow.db", ".mlflow.lock", ".tracking", "data", "__pycache__"}
    assert not any((project.path / "data").rglob("*.png"))


def test_a_server_that_is_not_there_is_named(project: Project) -> None:
    output = project.run(
        sys.executable, *FETCH, good=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9"
    )
    assert output.strip().splitlines()[-1].startswith("error: the MLflow store http://127.0.0.1:9")
    assert "unset MLFLOW_TRACKING_URI" in output
    assert "Traceback" not in output


def test_make_real_wants_data(project: Project) -> None:
    (project.path / ".venv").symlink_to(sys.prefix)
    output = project.run("make", "-o", ".venv/runtime", "real", good=False)
    assert "error: name the real images: make real DATA=" in output
