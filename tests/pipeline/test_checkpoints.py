import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import checkpoints
from pipeline.checkpoints import checkpoint_folder, training_key
from src.common.devices import Compute
from src.common.errors import UserError
from src.config.settings import parse_settings
from tests.conftest import ROOT, set_value


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code with an array to train on."""
    for folder in ("src", "pipeline"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for name in ("normal", "pneumonia"):
        (tmp_path / "data" / "arrays" / name).mkdir(parents=True)
        (tmp_path / "data" / "arrays" / name / "train.npy").write_bytes(name.encode())
    monkeypatch.setattr(checkpoints, "PROJECT", tmp_path)
    monkeypatch.setattr(checkpoints, "ROOT", tmp_path / ".checkpoints")
    return tmp_path


def key(params: dict[str, Any], compute: Compute) -> str:
    return training_key(parse_settings(params), "normal", compute)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("place", "value", "same"),
    [
        ("epochs", 99, True),
        ("seed", 99, False),
        ("batch_size", 4, False),
        ("generator.negative_slope", 0.1, False),
        ("optimizer.discriminator.learning_rate", 0.5, False),
    ],
)
def test_parameters_but_epochs_name_the_training(
    tiny: dict[str, Any], compute: Compute, place: str, value: Any, same: bool
) -> None:
    before = key(tiny, compute)
    set_value(*place.split("."), value=value)(tiny["train"]["normal"])
    assert (key(tiny, compute) == before) == same


@pytest.mark.usefixtures("project")
def test_what_a_checkpoint_serves_all_the_same_does_not_name_it(
    tiny: dict[str, Any], compute: Compute
) -> None:
    before = key(tiny, compute)
    tiny["train"].update(processes=2, checkpoint_interval_seconds=5, on_divergence="warn")
    tiny["train"]["pneumonia"]["seed"] = 77
    tiny["fid"]["seed"] = 77
    assert key(tiny, compute) == before


def test_data_code_and_precision_name_it(
    tiny: dict[str, Any], compute: Compute, project: Path
) -> None:
    keys = {key(tiny, compute)}
    keys.add(key(tiny, Compute(compute.device, "bf16", "channels_last", compile=False)))
    (project / "data/arrays/normal/train.npy").write_bytes(b"other")
    keys.add(key(tiny, compute))
    with (project / "src/training/loop.py").open("a") as code:
        code.write("# changed\n")
    keys.add(key(tiny, compute))
    assert len(keys) == 4


@pytest.mark.usefixtures("project")
def test_torch_and_the_kind_of_device_name_it(
    tiny: dict[str, Any], compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {key(tiny, compute)}
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: names[device.index or 0])
    names = ["one", "one", "another"]
    for index in range(3):
        device = torch.device("cuda", index)
        keys.add(key(tiny, Compute(device, "fp32", "contiguous", compile=False)))
    assert len(keys) == 3  # two alike make no difference
    monkeypatch.setattr("torch.__version__", "0.0")
    keys.add(key(tiny, compute))
    assert len(keys) == 4


def test_a_folder_that_is_removed_at_this_moment_is_made_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = checkpoints.try_lock
    removed: list[Path] = []

    def raced(path: Path) -> Any:
        if not removed:
            removed.append(path)
            path.parent.rmdir()
        return take(path)

    monkeypatch.setattr(checkpoints, "try_lock", raced)
    with checkpoint_folder("normal", "key") as folder:
        assert folder == project / ".checkpoints" / "normal" / "key"
    assert removed == [folder / checkpoints.LOCK]


def test_missing_data_are_named(tiny: dict[str, Any], compute: Compute, project: Path) -> None:
    (project / "data/arrays/normal/train.npy").unlink()
    with pytest.raises(UserError, match=r"train\.npy: it is missing; `dvc repro` makes it"):
        key(tiny, compute)


def test_two_at_once_have_folders_of_their_own(project: Path) -> None:
    with checkpoint_folder("normal", "k") as first, checkpoint_folder("normal", "k") as second:
        assert [first.name, second.name] == ["k", "k-2"]
    with checkpoint_folder("normal", "k") as again:
        assert again == first


def test_a_killed_process_leaves_its_folder_free(project: Path) -> None:
    code = (
        "import os, signal, sys, pathlib; from pipeline import checkpoints\n"
        "checkpoints.ROOT = pathlib.Path(sys.argv[1])\n"
        "with checkpoints.checkpoint_folder('normal', 'k'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(project / ".checkpoints")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -9
    with checkpoint_folder("normal", "k") as folder:
        assert folder.name == "k"


def test_the_oldest_are_removed_but_none_in_use(project: Path) -> None:
    parent = project / ".checkpoints" / "normal"
    with checkpoint_folder("normal", "used", 2) as used:
        os.utime(used / "lock", (1, 1))
        for number in range(4):
            with checkpoint_folder("normal", f"k{number}", 2) as folder:
                pass
            os.utime(folder / "lock", (10 + number, 10 + number))
        with checkpoint_folder("normal", "last", 2):
            left = {path.name for path in parent.iterdir()}
    assert left == {"used", "k3", "last"}
