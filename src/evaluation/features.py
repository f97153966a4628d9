"""What every feature extractor offers, and how a set of images goes through one."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


class FeatureExtractor(Protocol):
    """From uint8 images to features."""

    name: str
    dims: int

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (n, size, size) on the extractor's device to float32 (n, dims)."""
        ...


@torch.no_grad()
def extract_features(
    extractor: FeatureExtractor,
    images: NDArray[np.uint8],
    batch: int,
    device: torch.device,
    on_batch: Callable[[int], None] = lambda images: None,
) -> NDArray[np.float32]:
    """Features of uint8 images (n, size, size), as float32 of shape (n, dims).

    Float32 networks give slightly different features for different batch sizes, so every batch
    has ``batch`` images, the last one padded with black.
    """
    parts = []
    for start in range(0, len(images), batch):
        part = torch.from_numpy(
            np.array(images[start : start + batch])
        )  # the original may be read-only
        padded = F.pad(part, (0, 0, 0, 0, 0, batch - len(part)))
        parts.append(extractor(padded.to(device))[: len(part)].cpu().numpy())
        on_batch(len(part))
    return np.concatenate(parts)
