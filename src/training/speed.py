"""Training speed and memory of this machine, measured on a few images."""

import resource
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


def peak_memory(settings: TrainSettings, image_size: int, compute: Compute) -> int:
    """Measure the peak memory of a step of a whole batch of noise, in bytes.

    On a GPU it is that of the device. Else it is that of this process with all that it did before,
    so a training that takes less than an earlier one is given as much.
    """
    trainer = Trainer(settings, image_size, compute)
    shape = (settings.batch_size, 1, image_size, image_size)
    trainer.step(torch.rand(shape, device=compute.device) * 2 - 1)
    wait_for(compute.device)
    if compute.device.type == "cuda":
        return torch.cuda.max_memory_reserved(compute.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
