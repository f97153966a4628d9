"""Differentiable augmentation of all images that the discriminator sees, real and generated.

With few images a discriminator learns them by heart; augmented ones it has never seen, and since
the augmentation is differentiable the generator learns through it (Zhao et al., 2020). An
augmentation is one entry of ``AUGMENTATIONS``, by its name in the parameter ``augmentation``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.registry import AUGMENTATIONS, load

MAX_SHIFT = 1 / 8  # of a translation, as a fraction of the side
CUTOUT_SIDE = 1 / 2  # of the square that a cutout removes, as a fraction of the side


@dataclass(frozen=True)
class Augmentation:
    """One random and differentiable change of images."""

    draws: int  # random numbers for each image
    # Images (n, 1, size, size) in [-1, 1], and numbers uniform on [0, 1), (n, draws).
    apply: Callable[[Tensor, Tensor], Tensor]


def _brightness(images: Tensor, uniform: Tensor) -> Tensor:
    """Add a random grey value of -0.5 to 0.5 to each image."""
    return images + (uniform.view(-1, 1, 1, 1) - 0.5)


def _contrast(images: Tensor, uniform: Tensor) -> Tensor:
    """Scale each image about its mean by 0.5 to 1.5."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (uniform.view(-1, 1, 1, 1) + 0.5) + mean


def _translation(images: Tensor, uniform: Tensor) -> Tensor:
    """Move each image by whole pixels in both directions, filling with zeros."""
    size = images.shape[-1]
    most = round(size * MAX_SHIFT)
    shift = (uniform * (2 * most + 1)).floor().long() - most
    # Products with shifted identities: exact, and the gradient needs no scattered sums.
    source = torch.arange(size, device=images.device).view(1, 1, -1) - shift.unsqueeze(2)
    row, column = (
        F.one_hot(source.clamp(-1, size) + 1, size + 2)[..., 1:-1].to(images.dtype).unbind(1)
    )
    return (row @ images.squeeze(1) @ column.transpose(1, 2)).unsqueeze(1)


def _cutout(images: Tensor, uniform: Tensor) -> Tensor:
    """Set a random square, which may reach over the edge, to zero."""
    size = images.shape[-1]
    pixels = torch.arange(size, device=images.device)
    start = (uniform * (size + 1)).floor().unsqueeze(2) - size * CUTOUT_SIDE / 2
    row, column = ((pixels >= start) & (pixels < start + size * CUTOUT_SIDE)).unbind(1)
    hole = row.unsqueeze(2) & column.unsqueeze(1)
    return images * (~hole).unsqueeze(1).to(images.dtype)


BRIGHTNESS = Augmentation(1, _brightness)
CONTRAST = Augmentation(1, _contrast)
TRANSLATION = Augmentation(2, _translation)
CUTOUT = Augmentation(2, _cutout)


def _find(name: str) -> Augmentation:
    augmentation: Augmentation = load(AUGMENTATIONS[name])
    return augmentation


def count_draws(names: tuple[str, ...]) -> int:
    """Count the random numbers that these augmentations use for each image."""
    return sum(_find(name).draws for name in names)


def augment(images: Tensor, names: tuple[str, ...], uniform: Tensor) -> Tensor:
    """Apply augmentations in the order of their names.

    Args:
        images: (n, 1, size, size) in [-1, 1].
        names: keys of ``AUGMENTATIONS``.
        uniform: random numbers on [0, 1), (n, count_draws(names)).

    Returns:
        images of the same shape, whose values may leave [-1, 1].
    """
    start = 0
    for name in names:
        draws = _find(name).draws
        images = _find(name).apply(images, uniform[:, start : start + draws])
        start += draws
    return images
