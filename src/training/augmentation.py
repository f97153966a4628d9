"""Differentiable augmentation of all images that the discriminator sees, real and generated.

With few images a discriminator learns them by heart; augmented ones it has never seen, and since
the augmentation is differentiable the generator learns through it (Zhao et al., 2020). An
augmentation is one entry of ``AUGMENTATIONS``, by its name in the parameter ``augmentation``.

What an augmentation changes at random, the discriminator can no longer see well: a strong
translation hides whether the pose of generated images varies as that of real ones. So the strength
is a parameter. At 1 it is that of Zhao et al.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.registry import AUGMENTATIONS, load

# What follows is at strength 1.
MAX_SHIFT = 1 / 8  # of a translation, as a fraction of the side
CUTOUT_SIDE = 1 / 2  # of the square that a cutout removes, as a fraction of the side


@dataclass(frozen=True)
class Augmentation:
    """One random and differentiable change of images."""

    draws: int  # random numbers for each image
    # Of images (n, 1, size, size) in [-1, 1], numbers uniform on [0, 1), (n, draws), and a strength
    apply: Callable[[Tensor, Tensor, float], Tensor]


def _brightness(images: Tensor, uniform: Tensor, strength: float) -> Tensor:
    """Add a random grey value of -0.5 to 0.5 to each image."""
    return images + (uniform.view(-1, 1, 1, 1) - 0.5) * strength


def _contrast(images: Tensor, uniform: Tensor, strength: float) -> Tensor:
    """Scale each image about its mean by 0.5 to 1.5."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (1 + (uniform.view(-1, 1, 1, 1) - 0.5) * strength) + mean


def _translation(images: Tensor, uniform: Tensor, strength: float) -> Tensor:
    """Move each image by whole pixels in both directions, one or more at most, over zeros."""
    size = images.shape[-1]
    most = math.ceil(size * MAX_SHIFT * strength)
    shift = (uniform * (2 * most + 1)).floor().long() - most
    # Products with shifted identities: exact, and the gradient needs no scattered sums.
    source = torch.arange(size, device=images.device).view(1, 1, -1) - shift.unsqueeze(2)
    row, column = (
        F.one_hot(source.clamp(-1, size) + 1, size + 2)[..., 1:-1].to(images.dtype).unbind(1)
    )
    return (row @ images.squeeze(1) @ column.transpose(1, 2)).unsqueeze(1)


def _cutout(images: Tensor, uniform: Tensor, strength: float) -> Tensor:
    """Set a random square, which may reach over the edge, to zero."""
    size = images.shape[-1]
    pixels = torch.arange(size, device=images.device)
    side = size * CUTOUT_SIDE * strength
    start = (uniform * (size + 1)).floor().unsqueeze(2) - side / 2
    row, column = ((pixels >= start) & (pixels < start + side)).unbind(1)
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


def augment(
    images: Tensor, names: tuple[str, ...], uniform: Tensor, strength: float = 1.0
) -> Tensor:
    """Apply augmentations in the order of their names.

    Args:
        images: (n, 1, size, size) in [-1, 1].
        names: keys of ``AUGMENTATIONS``.
        uniform: random numbers on [0, 1), (n, count_draws(names)).
        strength: of all of them, above 0 and at most 1.

    Returns:
        images of the same shape, whose values may leave [-1, 1].
    """
    start = 0
    for name in names:
        draws = _find(name).draws
        images = _find(name).apply(images, uniform[:, start : start + draws], strength)
        start += draws
    return images
