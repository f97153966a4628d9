"""Training speed of this machine, measured on a few images."""

import time

import torch

from ..common.devices import Compute, wait_for
from ..config.train import TrainSettings
from .trainer import Trainer


def seconds_per_image(
    settings: TrainSettings, image_size: int, batch_size: int, compute: Compute
) -> float:
    """Measure how many seconds the updates of a step take for each image of a batch of noise."""
    device = compute.device
    trainer = Trainer(settings, image_size, compute)
    images = torch.rand(batch_size, 1, image_size, image_size, device=device) * 2 - 1
    for _ in range(trainer.warmup_steps):
        trainer.step(images)
    wait_for(device)
    start = time.perf_counter()
    trainer.step(images)
    wait_for(device)
    return (time.perf_counter() - start) / batch_size
