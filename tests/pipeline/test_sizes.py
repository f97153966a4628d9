"""The preset of the largest images: prepared, trained, killed, and the same bytes at the end."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from src.config.presets import preset_overrides
from src.config.settings import parse_yaml
from tests.conftest import ROOT, set_value
from tests.pipeline.project import Project
from tests.pipeline.test_kill import STAGE, checkpoints, results, wait_for_a_checkpoint

pytestmark = pytest.mark.long

KILLS = 2


def with_the_preset(params: Any) -> None:
    """Train NORMAL by networks/real-256.yaml, a few batches of 8 images."""
    defaults = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    params["train"]["normal"] = defaults["train"]["normal"]
    for override in preset_overrides("real-256", "normal"):
        key, _, value = override.partition("=")
        set_value(*key.split("."), value=parse_yaml(value, key))(params)
    params["train"]["normal"].update(batch_size=8, epochs=8)
    params["train"]["normal"]["samples"].update(epochs=[1], rows=2, columns=2)
    params["train"]["checkpoint_interval_seconds"] = 0.05


def test_at_256_pixels_a_killed_training_ends_with_the_same_bytes(tmp_path: Path) -> None:
    project = Project.cloned(tmp_path / "clone")
    project.change(with_the_preset)
    output = project.repro("preprocess")
    assert "80 of 80 originals have a side of fewer than 256 pixels" in output
    undisturbed = project.copied(tmp_path / "undisturbed")
    undisturbed.repro("train_normal")
    for _ in range(KILLS):
        old = checkpoints(project)
        process = project.start(*STAGE)
        wait_for_a_checkpoint(project, old)
        assert process.poll() is None, "there was nothing to kill"
        process.kill()
        process.communicate()
    assert "going on from a checkpoint" in project.repro("train_normal")
    assert results(project) == results(undisturbed)
