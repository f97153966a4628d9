"""Generators of the experiments see the images of their draw alone, whatever interrupts them."""

import json
import shutil
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import utility_eval
from pipeline.stage import Stage
from pipeline.utility_eval import scaled_training
from src.config.settings import Settings, parse_settings
from src.config.train import TrainSettings
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.models.networks import Generator
from src.utility.experiments import IMBALANCE, SCARCITY, Draw, Experiment, planned_draws
from tests.conftest import set_value
from tests.pipeline.project import Project, runs

SIZE = 16
EMPTY: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@pytest.fixture
def settings(tiny: dict[str, Any]) -> Settings:
    return parse_settings(tiny)


def planted(label: str, first: int) -> ImageSet:
    """Images whose grey value is the number of their patient, who has two of them."""
    patients = np.repeat(np.arange(first, first + 20), 2)
    images = np.broadcast_to(patients[:, None, None], (40, SIZE, SIZE)).astype(np.uint8)
    return ImageSet.of_class(images, label, Patients(patients))


@pytest.mark.parametrize("experiment", [SCARCITY, IMBALANCE])
def test_a_generator_sees_the_patients_to_fit_of_its_draw_and_class_alone(
    settings: Settings, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"NORMAL": planted("NORMAL", 0), "PNEUMONIA": planted("PNEUMONIA", 100)}
    train = ImageSet.joined(list(whole.values()))
    grey = train.images[:, 0, 0]  # names the patient
    seen: dict[str, NDArray[np.uint8]] = {}

    class Trained:
        network = None

    def train_generator(
        stage: Stage, title: str, label: str, images: NDArray[np.uint8], training: TrainSettings
    ) -> Trained:
        assert title.endswith(label)
        seen[label] = images
        return Trained()

    def generate(network: Generator, seed: int, count: int) -> NDArray[np.uint8]:
        return np.full((count, SIZE, SIZE), 255, dtype=np.uint8)

    monkeypatch.setattr(utility_eval, "train_generator", train_generator)
    monkeypatch.setattr(utility_eval, "generate", generate)
    monkeypatch.setattr(utility_eval, "train_sets", lambda: whole)
    stage = Stage("utility_eval", settings, cast(Any, None))
    for draw in planned_draws(experiment, train, settings.utility):
        seen.clear()
        drawn = utility_eval._generated_in_draw(stage, experiment, draw, train)
        assert set(seen) == set(experiment.generated_classes)
        for label, images in seen.items():
            fit = draw.fit[train.is_pneumonia[draw.fit] == (label == "PNEUMONIA")]
            assert sorted(images[:, 0, 0]) == sorted(grey[fit])
            hidden = np.concatenate([draw.validation, draw.unused])
            assert not set(images[:, 0, 0]) & set(grey[hidden])
        assert (drawn.images == 255).all()
        assert set(drawn.is_pneumonia) == {
            label == "PNEUMONIA" for label in experiment.generated_classes
        }


def test_a_training_on_few_images_sees_as_many_as_asked_in_batches_that_fit(
    settings: Settings,
) -> None:
    draws = [Draw(0.05, repeat, 2**62 + repeat, EMPTY, EMPTY, EMPTY) for repeat in range(2)]
    shared = settings.train.normal  # batches of 8
    few = scaled_training(shared, 1000, 5, draws[0])
    assert (few.batch_size, few.epochs) == (5, 200)
    more = scaled_training(shared, 1000, 43, draws[0])
    assert (more.batch_size, more.epochs) == (8, 25)  # 40 of 43 images an epoch
    assert scaled_training(shared, 1, 43, draws[0]).epochs == 1
    assert more.seed == few.seed != scaled_training(shared, 1000, 43, draws[1]).seed
    same = {"batch_size", "epochs", "seed"}
    assert more.model_dump(exclude=same) == shared.model_dump(exclude=same)


@pytest.mark.long
def test_the_experiments_killed_amid_a_generator_go_on_with_the_same_bytes(tmp_path: Path) -> None:
    template = Project.cloned(tmp_path / "template")
    template.change(set_value("train", "checkpoint_interval_seconds", value=0.05))
    template.change(set_value("utility", "scarcity", "enabled", value=True))
    template.change(set_value("utility", "imbalance", "enabled", value=True))
    template.change(set_value("utility", "generator_images", value=1500))
    for stage in ("fetch", "preprocess", "train_normal", "train_pneumonia"):
        template.repro("-s", stage)
    undisturbed = template.copied(tmp_path / "undisturbed")
    undisturbed.repro("-s", "utility_eval")

    project = template.copied(tmp_path / "killed")
    kept = project.path / ".checkpoints" / "generators"
    shutil.rmtree(kept, ignore_errors=True)
    process = project.start("python3", "-m", "pipeline.utility_eval")
    deadline = time.monotonic() + 300
    # Kill it within the third training.
    while len(list(kept.glob("*/generator.pt"))) < 2 or not list(kept.glob("*/step_*.pt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    done = set(kept.glob("*/generator.pt"))
    changed = {file: file.stat().st_mtime_ns for file in done}
    output = project.run("python3", "-m", "pipeline.utility_eval")
    assert output.count("trained before on the same images") == len(done)
    assert output.count("going on from a checkpoint") == 1
    assert {file: file.stat().st_mtime_ns for file in done} == changed

    results = ("utility/scarcity.csv", "utility/imbalance.csv", "metrics/utility.json")
    for name in results:
        first, second = (
            (made.path / "reports" / name).read_bytes() for made in (undisturbed, project)
        )
        assert first == second, name
    metrics = json.loads((project.path / "reports/metrics/utility.json").read_text())
    assert metrics["scarcity"]["repeats"] == 5
    # Five draws with a generator of each class, and five with one of PNEUMONIA.
    generators = list(kept.glob("*/generator.pt"))
    assert len(generators) == 15
    assert not list(kept.glob("*/step_*.pt"))
    assert [status for _, status in runs(project.path, "utility_eval")] == ["KILLED", "FINISHED"]
    project.repro("-s", "fid_eval")
    project.repro("-s", "privacy_eval")
    project.run("dvc", "commit", "-f", "utility_eval")
    project.repro("-s", "report")
    page = (project.path / "reports" / "index.html").read_text()
    assert "Gain in ROC AUC over classical augmentation" in page
