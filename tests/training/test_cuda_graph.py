"""On a GPU a graphed step gives the bytes of the step itself; skipped where there is none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src.common.devices import Compute
from src.config.settings import Settings, parse_settings
from src.training.checkpoints import Checkpoints
from src.training.cuda_graph import WARMUP_STEPS
from src.training.loop import Safeguards, TrainingCallbacks, train
from src.training.trainer import Trainer
from tests.conftest import set_value
from tests.training.test_resume import same, stopped_after

STEPS = WARMUP_STEPS + 4


def weights(trainer: Trainer) -> list[Tensor]:
    networks = (trainer.generator, trainer.discriminator, trainer.sampling_generator)
    return [value.clone() for network in networks for value in network.state_dict().values()]


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {
            "loss": "wasserstein",
            "gradient_penalty": 10.0,
            "discriminator_updates": "together",
            "ema_decay": 0.9,
        },
        {"augmentation": ["brightness", "contrast", "translation", "cutout"]},
        {"generator.normalization": "batch", "discriminator.normalization": "spectral"},
        {"generator.upsampling": "nearest", "generator.normalization": "spectral"},
        {"optimizer.learning_rate_half_life": 10},
        {"optimizer.generator.name": "rmsprop", "optimizer.discriminator.name": "sgd"},
    ],
)
def test_a_graphed_step_is_the_step(
    tiny: dict[str, Any], cuda: Compute, choices: dict[str, Any]
) -> None:
    for key, value in choices.items():
        set_value(*key.split("."), value=value)(tiny["train"]["normal"])
    settings = parse_settings(tiny).train.normal
    graphed = Trainer(settings, 16, cuda)
    plain = Trainer(settings, 16, replace(cuda, cuda_graphs=False))
    assert (graphed.warmup_steps, plain.warmup_steps) == (WARMUP_STEPS + 1, 1)
    random = torch.Generator(cuda.device).manual_seed(1)
    for _ in range(STEPS):
        real = torch.rand(8, 1, 16, 16, generator=random, device=cuda.device) * 2 - 1
        assert torch.equal(graphed.step(real), plain.step(real))
    for one, other in zip(weights(graphed), weights(plain), strict=True):
        assert torch.equal(one, other)
    for name, stream in graphed.state_dict().items():
        if name in ("noise", "dropout", "augmentation", "penalty"):
            assert torch.equal(stream, plain.state_dict()[name])


@pytest.mark.parametrize("step", [1, WARMUP_STEPS, WARMUP_STEPS + 1, 7])
def test_stopped_and_resumed_it_is_the_same(
    fancy_settings: Settings, cuda: Compute, tmp_path: Path, step: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    settings = fancy_settings.train.normal
    whole = train(images, settings, cuda, TrainingCallbacks())
    kept = Safeguards(Checkpoints(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        train(images, settings, cuda, stopped_after(step), kept)
    same(train(images, settings, cuda, TrainingCallbacks(), kept), whole)


def test_on_the_cpu_nothing_is_recorded(tiny_settings: Settings, compute: Compute) -> None:
    assert not compute.records
    assert Trainer(tiny_settings.train.normal, 16, compute).warmup_steps == 1
