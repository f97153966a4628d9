"""How fast this machine is, measured on a few images."""

import time

import torch

from src.compute import Compute
from src.evaluation.inception import InceptionExtractor
from src.settings.fid import FidSettings
from src.settings.train import TrainSettings
from src.training.trainer import Trainer


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


@torch.no_grad()
def seconds_per_feature(
    settings: FidSettings, image_size: int, batch: int, device: torch.device
) -> float:
    """Seconds that the Inception network takes for one image; its weights do not matter."""
    network = InceptionExtractor(settings.dims).to(device).eval()
    images = torch.zeros(batch, image_size, image_size, dtype=torch.uint8, device=device)
    network(images)
    wait_for(device)
    start = time.perf_counter()
    network(images)
    wait_for(device)
    return (time.perf_counter() - start) / batch


def wait_for(device: torch.device) -> None:
    """Let the device finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
