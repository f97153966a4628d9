"""Differentiable augmentation: what the discriminator sees, real or generated, is disturbed alike.

With few images a discriminator learns them by heart; disturbed ones it has never seen, and since
the disturbance has a gradient the generator learns through it (Zhao et al., 2020). An augmentation
is one entry of ``AUGMENTATIONS``; the parameters know it by its name there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 1 / 8  # of the side, the most that an image is translated
HOLE = 1 / 2  # of the side, what a cutout takes


@dataclass(frozen=True)
class Augmentation:
    """One disturbance."""

    numbers: int  # of chance that it uses for an image
    # Images (n, 1, size, size) in [-1, 1] and chance, uniform on [0, 1), (n, numbers).
    apply: Callable[[Tensor, Tensor], Tensor]


def _brightness(images: Tensor, chance: Tensor) -> Tensor:
    """Add a grey of up to a quarter of the range of tanh, or take it away, for each image."""
    return images + (chance.view(-1, 1, 1, 1) - 0.5)


def _contrast(images: Tensor, chance: Tensor) -> Tensor:
    """Scale each image about its mean by 0.5 to 1.5."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (chance.view(-1, 1, 1, 1) + 0.5) + mean


def _translation(images: Tensor, chance: Tensor) -> Tensor:
    """Move each image by whole pixels, down and right or up and left; zeros move in."""
    size = images.shape[-1]
    most = round(size * SHIFT)
    shift = (chance * (2 * most + 1)).floor().long() - most
    # Products with shifted identities: exact, and the gradient needs no scattered sums.
    source = torch.arange(size, device=images.device).view(1, 1, -1) - shift.unsqueeze(2)
    row, column = (
        F.one_hot(source.clamp(-1, size) + 1, size + 2)[..., 1:-1].to(images.dtype).unbind(1)
    )
    return (row @ images.squeeze(1) @ column.transpose(1, 2)).unsqueeze(1)


def _cutout(images: Tensor, chance: Tensor) -> Tensor:
    """Set a square of half the side, which may reach over the edge, to zero."""
    size = images.shape[-1]
    pixels = torch.arange(size, device=images.device)
    start = (chance * (size + 1)).floor().unsqueeze(2) - size * HOLE / 2
    row, column = ((pixels >= start) & (pixels < start + size * HOLE)).unbind(1)
    hole = row.unsqueeze(2) & column.unsqueeze(1)
    return images * (~hole).unsqueeze(1).to(images.dtype)


AUGMENTATIONS = {
    "brightness": Augmentation(1, _brightness),
    "contrast": Augmentation(1, _contrast),
    "translation": Augmentation(2, _translation),
    "cutout": Augmentation(2, _cutout),
}


def numbers_for(names: tuple[str, ...]) -> int:
    """Numbers of chance that these augmentations use for an image."""
    return sum(AUGMENTATIONS[name].numbers for name in names)


def augment(images: Tensor, names: tuple[str, ...], chance: Tensor) -> Tensor:
    """Disturb images, in the order of the names.

    Args:
        images: (n, 1, size, size) in [-1, 1].
        names: of ``AUGMENTATIONS``.
        chance: uniform on [0, 1), (n, numbers_for(names)).
    """
    start = 0
    for name in names:
        numbers = AUGMENTATIONS[name].numbers
        images = AUGMENTATIONS[name].apply(images, chance[:, start : start + numbers])
        start += numbers
    return images
