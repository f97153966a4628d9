"""What the two networks are asked for, as functions of the discriminator's logits.

A loss is one entry of ``LOSSES``; the parameters know it by its name there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """One adversarial loss; each function takes logits (n,) to a scalar."""

    on_real: Callable[[Tensor, float], Tensor]  # the discriminator's; the target for real images
    on_fake: Callable[[Tensor], Tensor]  # the discriminator's on generated images
    for_generator: Callable[[Tensor], Tensor]
    # Where the gradient penalty is taken: at the real images, where the gradient shall vanish
    # (R1; Mescheder et al., 2018, eq. 9), or between real and generated ones, where its norm shall
    # be 1 (Gulrajani et al., 2017, eq. 3).
    penalty: Literal["real", "between"]
    smooths: bool = False  # whether the target for real images may be below 1
    needs_penalty: bool = False
    parts_at_zero: bool = True  # whether a logit above 0 means that an image is taken for real


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    """Mean binary cross-entropy of sigmoid(logits) against one target."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


LOSSES = {
    # Goodfellow et al., 2014, section 3, with the non-saturating loss of the generator.
    "bce": Loss(
        on_real=_cross_entropy,
        on_fake=lambda logits: _cross_entropy(logits, 0.0),
        for_generator=lambda logits: _cross_entropy(logits, 1.0),
        penalty="real",
        smooths=True,
    ),
    # Lim and Ye, 2017; Miyato et al., 2018, eq. 16 and 17.
    "hinge": Loss(
        on_real=lambda logits, target: F.relu(1 - logits).mean(),
        on_fake=lambda logits: F.relu(1 + logits).mean(),
        for_generator=lambda logits: -logits.mean(),
        penalty="real",
    ),
    # Arjovsky et al., 2017; Gulrajani et al., 2017.
    "wasserstein": Loss(
        on_real=lambda logits, target: -logits.mean(),
        on_fake=lambda logits: logits.mean(),
        for_generator=lambda logits: -logits.mean(),
        penalty="between",
        needs_penalty=True,
        parts_at_zero=False,
    ),
}


def gradient_penalty(
    loss: Loss, discriminator: Network, real: Tensor, fake: Tensor, between: Tensor
) -> Tensor:
    """The penalty on the discriminator's gradient, before its weight; a scalar.

    Args:
        loss: says where the penalty is taken.
        discriminator: from images to logits.
        real: real images, float32 (n, 1, size, size).
        fake: generated images of the same shape, without a gradient.
        between: where on the way from fake to real, uniform on [0, 1), (n,).
    """
    place = real if loss.penalty == "real" else fake + between.view(-1, 1, 1, 1) * (real - fake)
    place = place.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(place).sum(), place, create_graph=True)
    squares = gradient.square().sum((1, 2, 3))
    if loss.penalty == "real":
        return squares.mean() / 2
    # The root has no derivative at 0, where a dead discriminator would be.
    return ((squares + 1e-12).sqrt() - 1).square().mean()
