"""Speed of the feature extractor on this machine, measured on a few images."""

import time

import torch

from ..common.devices import wait_for
from ..config.fid import FidSettings
from .inception import InceptionExtractor


@torch.no_grad()
def seconds_per_feature(
    settings: FidSettings, image_size: int, batch: int, device: torch.device
) -> float:
    """Measure the seconds per image of the Inception network, with random weights."""
    network = InceptionExtractor(settings.dims).to(device).eval()
    images = torch.zeros(batch, image_size, image_size, dtype=torch.uint8, device=device)
    network(images)
    wait_for(device)
    start = time.perf_counter()
    network(images)
    wait_for(device)
    return (time.perf_counter() - start) / batch
