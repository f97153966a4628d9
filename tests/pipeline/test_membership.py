"""The stage privacy_eval with `privacy.membership`: a small version; all else stays as it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import checkpoints, generators, privacy_eval
from pipeline import stage as stage_module
from pipeline.stage import Stage
from src.config.settings import parse_settings
from src.data.classes import CLASSES
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.models.initialization import initialize
from src.models.networks import Generator
from src.report.wording import MEMBERSHIP_ATTACKS
from src.tracking.runs import start_run
from tests.servers import empty_store
from tests.tracking.conftest import client

pytestmark = pytest.mark.long


def image_sets(seed: int, count: int) -> dict[str, ImageSet]:
    """Images of noise, two of each patient."""
    rng = np.random.default_rng(seed)
    patients = Patients(np.arange(count) // 2)
    return {
        label: ImageSet.of_class(
            rng.integers(0, 256, (count, 16, 16), dtype=np.uint8), label, patients
        )
        for label in CLASSES
    }


@pytest.fixture
def params(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Parameters of a stage whose inputs, outputs, store and checkpoints lie in a folder."""
    tiny["compute"].update(device="cpu", threads=1)
    tiny["fid"].update(extractor="pixels", dims=16)
    shutil.copyfile(empty_store(), tmp_path / "mlflow.db")
    generator = Generator(parse_settings(tiny).train.normal.generator, 16)
    initialize(generator, "xavier", torch.Generator().manual_seed(1))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checkpoints, "ROOT", tmp_path / ".checkpoints")
    monkeypatch.setattr(generators, "HOME", tmp_path)
    monkeypatch.setattr(stage_module, "METRICS", tmp_path)
    monkeypatch.setattr(privacy_eval, "PROJECT", tmp_path)
    monkeypatch.setattr(
        privacy_eval, "load_generators", lambda device: dict.fromkeys(CLASSES, generator.eval())
    )
    monkeypatch.setattr(privacy_eval, "train_sets", lambda: image_sets(1, 36))
    monkeypatch.setattr(privacy_eval, "test_sets", lambda: image_sets(2, 16))
    return tiny


def run(params: dict[str, Any], root: Path, membership: bool) -> tuple[dict[str, Any], str]:
    """Run the stage; its metrics, and the table of the copy test."""
    params["privacy"]["membership"] = membership
    with start_run("privacy_eval", root, {}, {}) as tracked:
        privacy_eval.privacy_eval(Stage("privacy_eval", parse_settings(params), tracked))
    table = (root / "reports" / "privacy" / "nearest.csv").read_text()
    return json.loads((root / "privacy.json").read_text()), table


def test_a_small_version_attacks_two_generators_of_each_class_and_changes_nothing_else(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "reports" / "privacy" / "membership.csv"
    off, table_off = run(params, tmp_path, membership=False)
    assert file.read_text() == ",".join(privacy_eval.MEMBERSHIP_COLUMNS) + "\n"
    on, table_on = run(params, tmp_path, membership=True)
    table = pd.read_csv(file)
    assert list(table.columns) == privacy_eval.MEMBERSHIP_COLUMNS
    assert len(table) == len(CLASSES) * 2 * len(MEMBERSHIP_ATTACKS)
    assert (table["low"] <= table["auc"]).all()
    assert (table["tpr_at_1_percent"] <= table["tpr_high"]).all()
    assert set(table["members"]) == {18}  # one image of each patient
    files = list((tmp_path / ".checkpoints").rglob("generator.pt"))
    assert len(files) == 4
    for part in on.values():
        assert part["membership"]["train_images"] == [18, 18]
        assert len(set(part["membership"]["generators"])) == 2
    # Its numbers are in MLflow, and its generators have runs of their own.
    experiment = client(tmp_path).get_experiment_by_name("chest-xray-gan")
    assert experiment is not None
    runs = client(tmp_path).search_runs([experiment.experiment_id])
    names = [entity.info.run_name for entity in runs]
    assert "privacy_eval: NORMAL, first half of the patients" in names
    (stage_run,) = (entity for entity in runs if "NORMAL/membership clean in pixels" in
                    entity.data.metrics)  # fmt: skip
    assert stage_run.info.run_name == "privacy_eval"
    # What was trained is taken again, with the same numbers.
    monkeypatch.delattr(generators, "run_training")
    assert run(params, tmp_path, membership=True) == (on, table_on)
    # All else is as without it.
    for part in on.values():
        del part["membership"]
    assert (on, table_on) == (off, table_off)
