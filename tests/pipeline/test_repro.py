"""The whole pipeline in a temporary clone, as a user runs it."""

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.config.registry import VARIETY
from tests.conftest import kaggle_files, set_value, write_zip
from tests.pipeline.project import STAGES, Project

pytestmark = pytest.mark.long

JUDGING = ["fid_eval", "privacy_eval", "utility_eval"]
TRAINING_TOO = ["privacy_eval", "utility_eval"]  # generators of their own, with train's settings


@pytest.fixture(scope="module")
def project(finished: Project) -> Project:
    return finished


@pytest.fixture
def edited(finished: Project, tmp_path: Path) -> Project:
    """A copy of the project, with a tracking store of its own."""
    return finished.copied(tmp_path / "a clone")


def test_every_output_is_there(project: Project) -> None:
    history = pd.read_csv(project.path / "models/normal/history.csv")
    assert list(history.columns) == ["epoch", "g", "d1", "d2"]
    assert history["epoch"].tolist() == [1, 2, 3]
    samples = sorted(file.name for file in (project.path / "models/pneumonia/samples").iterdir())
    assert samples == ["epoch_00001.png", "epoch_00003.png"]
    distances = pd.read_csv(project.path / "reports/fid/distances.csv")
    assert len(distances) == 3 * 8
    variety = pd.read_csv(project.path / "reports/fid/variety.csv")
    assert len(variety) == 2 * len(VARIETY)
    assert set(variety["n"]) == {24}
    metrics = json.loads((project.path / "reports/metrics/fid.json").read_text())
    for row in variety.to_dict("records"):
        assert metrics["variety"][row["class"]][row["measure"]]["value"] == row["value"]
    frechet = metrics["scores"]["NORMAL"]["frechet"]
    parts = frechet["means_part"] + frechet["covariances_part"]
    assert parts == pytest.approx(frechet["value"])
    table = pd.read_csv(project.path / "data/images.csv")
    assert len(table) == 2 * (24 + 16)
    page = (project.path / "reports/index.html").read_text()
    assert "procedural phantoms" in page
    assert "<h3>Variety</h3>" in page
    assert len(list((project.path / "reports/figures").glob("*.png"))) == 7


def test_git_sees_only_what_it_should_hold(project: Project) -> None:
    held = project.run("git", "ls-files").split()
    assert "dvc.lock" in held
    assert len([name for name in held if name.startswith("reports/metrics/")]) == 7
    assert not [name for name in held if name.startswith(("data/", "models/", "mlruns"))]
    assert project.run("git", "status", "--short") == ""


def test_nothing_is_done_again(project: Project) -> None:
    assert project.changed_stages() == []
    assert "up to date" in project.repro()


def test_the_same_seed_gives_the_same_bytes_in_other_surroundings(
    project: Project, tmp_path: Path
) -> None:
    again = Project.cloned(tmp_path / "again")
    link = tmp_path / "a link"
    link.symlink_to(again.path)
    surroundings = {
        "LC_ALL": "C",
        "TZ": "Pacific/Auckland",
        "HOME": str(tmp_path / "nobody"),  # which is not there
        "COLUMNS": "40",
        "PYTHONHASHSEED": "7",
    }
    Project(link).repro(**surroundings)
    assert again.hashes() == project.hashes()


@pytest.mark.parametrize(
    ("edit", "stages"),
    [
        (set_value("train", "normal", "seed", value=77), ["train_normal", *TRAINING_TOO]),
        (
            set_value("train", "pneumonia", "epochs", value=4),
            ["train_pneumonia", *TRAINING_TOO],
        ),
        (set_value("fid", "iterations", value=4), ["fid_eval"]),
        (set_value("fid", "dims", value=9), ["fid_eval", "privacy_eval"]),
        (set_value("privacy", "near_quantile", value=0.02), ["privacy_eval"]),
        (set_value("utility", "training_steps", value=3), ["utility_eval"]),
        (set_value("report", "title", value="Other"), []),
        (set_value("data", "names", "normal", value="healthy"), []),
        (set_value("data", "phantom", "seed", value=9), ["fetch"]),
        (set_value("preprocess", "filter", value="box"), ["preprocess"]),
        (
            set_value("compute", "device", value="cpu"),
            ["train_normal", "train_pneumonia", *JUDGING],
        ),
    ],
)
def test_a_parameter_changes_its_stages_and_the_report_that_shows_it(
    edited: Project, edit: Any, stages: list[str]
) -> None:
    edited.change(edit)
    assert edited.changed_stages() == [*stages, "report"]


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("src/report/page.html", ["report"]),
        ("src/report/figures.py", ["report"]),
        ("src/metrics/frechet.py", ["fid_eval", "privacy_eval", "report"]),
        ("src/training/loop.py", ["train_normal", "train_pneumonia", *TRAINING_TOO]),
        ("src/models/sampling.py", ["train_normal", "train_pneumonia", *JUDGING, "report"]),
        # A new choice is an entry and its code.
        ("src/config/registry.py", []),
        ("src/training/losses.py", ["train_normal", "train_pneumonia", *TRAINING_TOO]),
        ("src/metrics/resizing.py", ["fid_eval", "privacy_eval"]),
        ("src/data/sources.py", ["fetch"]),
        ("src/tracking/runs.py", []),
        ("pipeline/stage.py", []),
    ],
)
def test_code_changes_the_stages_that_run_it(edited: Project, file: str, stages: list[str]) -> None:
    path = edited.path / file
    path.write_text(path.read_text() + "\n")
    assert edited.changed_stages() == stages


def test_another_name_of_a_class_is_shown_by_the_report_alone(edited: Project) -> None:
    edited.change(set_value("data", "names", value={"normal": "A & <b>", "pneumonia": "COVID-19"}))
    before = edited.hashes()
    edited.repro()
    after = edited.hashes()
    assert {path for path in after if after[path] != before[path]} == {
        "reports/index.html",
        "reports/model-card.md",
        "reports/figures",
    }
    page = (edited.path / "reports/index.html").read_text().partition('id="parameters"')[0]
    shown = re.sub(r"(?s)<(style|script)>.*?</\1>|<[^>]+>", "", page)
    assert not re.findall("normal|pneumonia", shown, re.IGNORECASE)
    assert "A &amp; &lt;b&gt;, copies:" in shown
    assert "copies, COVID-19: " in edited.run(sys.executable, "-m", "src.summary")
    assert "Losses, COVID-19" in edited.run("dvc", "plots", "show", "--json")


def test_a_change_of_normal_training_retrains_normal_alone(edited: Project) -> None:
    before = edited.hashes()
    edited.change(set_value("train", "normal", "seed", value=78))
    output = edited.repro()
    assert "Stage 'train_pneumonia' didn't change, skipping" in output
    after = edited.hashes()
    assert before["models/normal/generator.pt"] != after["models/normal/generator.pt"]
    assert before["models/pneumonia/generator.pt"] == after["models/pneumonia/generator.pt"]
    edited.git("checkout", "-q", "--", ".")
    edited.run("dvc", "checkout")
    assert edited.changed_stages() == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            set_value("train", "normal", "lr", value=1),
            "train.normal.lr: there is no such parameter",
        ),
        (set_value("fid", "iterations", value="many"), "fid.iterations"),
        (set_value("search", value={}), "search: there is no such parameter"),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_line(edited: Project, edit: Any, message: str) -> None:
    edited.change(edit)
    output = edited.repro(good=False)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in output


def test_mlflow_holds_a_run_for_each_stage(project: Project) -> None:
    with sqlite3.connect(project.path / "mlflow.db") as store:
        query = "select t.value from tags t where t.key = ?"
        stages = [row[0] for row in store.execute(query, ("dvc.stage",))]
        hashes = {row[0] for row in store.execute(query, ("data.sha256",))}
        g = store.execute("select count(*) from metrics where key = 'g'").fetchone()[0]
        varied = store.execute("select count(*) from metrics where key like 'variety/%'").fetchone()
        places = [row[0] for row in store.execute("select artifact_uri from runs")]
        query = "select value, count(*) from params where key = ?"
        names = [
            store.execute(query, (f"data.names.{c}",)).fetchone() for c in ("normal", "pneumonia")
        ]
    assert set(stages) == set(STAGES)
    assert names == [(name, len(STAGES) - 1) for name in ("NORMAL", "PNEUMONIA")]
    assert len(hashes) == 1
    assert g >= 2 * 3
    assert varied[0] == 2 * len(VARIETY)
    assert all(place.startswith("file:///") for place in places)
    names = {path.name for path in (project.path / "mlartifacts").rglob("*")}
    assert {
        "describe.json",
        "distance_boxes.png",
        "index.html",
        "history.csv",
        "network.pt2",
        "generator.pt",
        "model-card.md",
    } <= names


def test_an_experiment_is_named_in_its_runs_and_can_be_compared(edited: Project) -> None:
    edited.run("dvc", "exp", "run", "-n", "shallow", "-S", "fid.seed=5")
    with sqlite3.connect(edited.path / "mlflow.db") as store:
        query = "select count(*) from tags where key = 'dvc.experiment' and value = 'shallow'"
        assert store.execute(query).fetchone()[0] == 3  # fid_eval, privacy_eval and report
    assert "fid.seed" in edited.run("dvc", "params", "diff", "HEAD", "shallow")
    assert "pairs.RNxRP.mean" in edited.run("dvc", "metrics", "diff", "HEAD", "shallow")
    assert "shallow" in edited.run("dvc", "exp", "show", "--csv")
    edited.run("dvc", "plots", "diff", "HEAD", "shallow")


def test_a_run_in_a_temporary_copy_keeps_its_record(edited: Project) -> None:
    edited.run("dvc", "exp", "run", "--temp", "-n", "aside", "-S", "fid.seed=6")
    with sqlite3.connect(edited.path / "mlflow.db") as store:
        query = (
            "select r.artifact_uri from runs r join tags t on r.run_uuid = t.run_uuid "
            "where t.key = 'dvc.experiment' and t.value = 'aside'"
        )
        places = [row[0] for row in store.execute(query)]
    assert places
    assert all("mlartifacts" in place and "/.dvc/tmp/" not in place for place in places)


def test_generators_that_copy_are_caught_by_the_stage(edited: Project) -> None:
    """Both generators give mirrored train images of both classes instead of their own."""
    copying = """


def generate(generator: nn.Module, seed: int, count: int, start: int = 0) -> NDArray[np.uint8]:
    import numpy as np

    files = ("data/arrays/normal/train.npy", "data/arrays/pneumonia/train.npy")
    copies = np.concatenate([np.load(file) for file in files])[:, :, ::-1]
    return copies[np.arange(count) * len(copies) // count]
"""
    path = edited.path / "src" / "models" / "sampling.py"
    path.write_text(path.read_text() + copying)
    # As much as so few can show, of which two repeat each other.
    edited.change(set_value("privacy", "significance_level", value=0.06))
    output = edited.run("python3", "-m", "pipeline.privacy_eval")
    assert "NORMAL: Copies: of 12 generated images " in output
    assert "PNEUMONIA: Copies: of 12 generated images " in output
    found = json.loads((edited.path / "reports/metrics/privacy.json").read_text())
    assert {label: part["verdict"] for label, part in found.items()} == {
        "NORMAL": "copies",
        "PNEUMONIA": "copies",
    }


def test_from_another_interpreter_a_stage_says_what_to_activate(project: Project) -> None:
    bare = project.path.parent / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    output = project.run(str(bare / "bin" / "python3"), "-m", "pipeline.fetch", good=False)
    assert len(output.splitlines()) == 1
    assert "source .venv/bin/activate" in output


def test_another_source_is_the_same_road(edited: Project, tmp_path: Path) -> None:
    files = kaggle_files(per_place=14)
    files["chest_xray/train/NORMAL/scan.jpeg"] = files.pop(
        "chest_xray/train/NORMAL/IM-0003-0001.jpeg"
    )
    path = write_zip(tmp_path / "archive.zip", files)
    checksum = edited.run("python3", "-m", "src.real", "--checksum", str(path)).strip()

    def edit(params: Any) -> None:
        params["data"].update(source="kermany", path=str(path), sha256=checksum)

    edited.change(edit)
    output = edited.repro()
    assert "the patients of 1 images are not known" in output
    assert "utility.training_steps: 2 batches show 8 images of a class that has " in output
    assert "phantoms" not in (edited.path / "reports/index.html").read_text().partition("<h2")[0]
    counts = json.loads((edited.path / "reports/metrics/fetch.json").read_text())["images"]
    assert counts["train"] == {"NORMAL": 14, "PNEUMONIA": 14}


def test_a_source_that_is_not_there_leaves_nothing(edited: Project) -> None:
    def edit(params: Any) -> None:
        params["data"].update(source="kermany", path="absent.zip")

    edited.change(edit)
    output = edited.repro(good=False)
    assert "absent.zip: there is no such file or folder" in output
    assert "Traceback" not in output
    assert not (edited.path / "data" / "images").exists()
    assert not list((edited.path / "data").glob(".images*"))


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "it is missing"), (b"split\n\xff\n", "it cannot be read")]
)
def test_a_table_that_is_missing_or_damaged_is_named(
    edited: Project, content: bytes | None, reason: str
) -> None:
    table = edited.path / "data" / "arrays" / "table.csv"
    table.unlink()
    if content is not None:
        table.write_bytes(content)
    output = edited.run("python3", "-m", "pipeline.fid_eval", good=False)
    assert f"error: data/arrays/table.csv: {reason}" in output
    assert "Traceback" not in output
