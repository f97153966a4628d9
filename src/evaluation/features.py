"""What every feature extractor offers, and how a set of images goes through one."""

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
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Features of uint8 images (n, size, size), as float32 of shape (n, dims).

    Float32 networks give slightly different features for different batch sizes, so every batch
    has ``batch`` images, the last one padded with black.

    Args:
        extractor: the network.
        images: an array, or a memory map, which is read batch by batch.
        batch: images that go through the network at once.
        device: the extractor's.
        rows: places of the images that are wanted; all of them if None.
    """
    wanted = np.arange(len(images)) if rows is None else rows
    features = np.empty((len(wanted), extractor.dims), dtype=np.float32)
    for start in range(0, len(wanted), batch):
        part = torch.from_numpy(images[wanted[start : start + batch]])
        padded = F.pad(part, (0, 0, 0, 0, 0, batch - len(part)))
        found = extractor(padded.to(device))[: len(part)]
        features[start : start + len(part)] = found.cpu().numpy()
    return features
