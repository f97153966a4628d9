"""Training speed of this machine, measured on a few images."""

import time

import torch

from ..common.devices import Compute, wait_for
from ..config.train import TrainSettings
from .trainer import Trainer


def seconds_per_image(
    settings: TrainSettings, image_size: int, batch: int, compute: Compute
) -> float:
    """Seconds that the updates of a step take for one image, measured on one batch of noise."""
    device = compute.device
    trainer = Trainer(settings, image_size, compute)
    images = torch.rand(batch, 1, image_size, image_size, device=device) * 2 - 1
    for _ in range(trainer.warm_up):
        trainer.step(images)
    wait_for(device)
    start = time.perf_counter()
    trainer.step(images)
    wait_for(device)
    return (time.perf_counter() - start) / batch
