"""Images from a generator, and the two ranges that images come in."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .networks import Generator

BATCH = 100  # images drawn at once, always, the last ones with padding


@torch.no_grad()
def generate(generator: Generator, noise: Tensor) -> NDArray[np.uint8]:
    """Images from noise (n, latent), as uint8 of shape (n, size, size).

    An image's bytes do not depend on how many are drawn together.
    """
    was_training = generator.training
    generator.eval()
    parts = []
    for part in noise.split(BATCH):
        padded = F.pad(part, (0, 0, 0, BATCH - len(part)))
        parts.append(to_bytes(generator(padded)[: len(part)]).cpu().numpy())
    generator.train(was_training)
    return np.concatenate(parts)


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 (n, size, size) to float32 (n, 1, size, size) in [-1, 1], the range of tanh."""
    return images.unsqueeze(1).float().div_(127.5).sub_(1)


def to_bytes(images: Tensor) -> Tensor:
    """float (n, 1, size, size) in [-1, 1] to uint8 (n, size, size), rounded."""
    return images.squeeze(1).add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)
