"""Adversarial losses as functions of the discriminator's logits, and the gradient penalty.

Their names, and what else parameters may ask of them, stand in ``config.registry.LOSSES``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """An adversarial loss; its functions take logits (n,) to a scalar."""

    on_real: Callable[[Tensor, float], Tensor]  # discriminator's, with the target for real images
    on_fake: Callable[[Tensor], Tensor]  # discriminator's on generated images
    for_generator: Callable[[Tensor], Tensor]
    # Where the gradient penalty is taken: at the real images, where the gradient shall vanish
    # (R1; Mescheder et al., 2018, eq. 9), or at interpolated ones, where its norm shall be 1
    # (Gulrajani et al., 2017, eq. 3).
    penalty: Literal["real", "interpolated"]
    classifies: bool = True  # whether a logit above 0 means that an image is taken for real
    compares_pairs: bool = False  # whether its logits are differences of a real and a fake image's


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    """Compute the mean binary cross-entropy of sigmoid(logits) against one target."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


# Goodfellow et al., 2014, section 3, with the non-saturating loss of the generator.
BCE = Loss(
    on_real=_cross_entropy,
    on_fake=lambda logits: _cross_entropy(logits, 0.0),
    for_generator=lambda logits: _cross_entropy(logits, 1.0),
    penalty="real",
)
# Jolicoeur-Martineau, 2019, section 4.1: whether a real image looks more real than a generated
# one. The logits alone mean nothing. A generator that leaves some of the real images out cannot
# satisfy it, since each of them has its turn in a pair (Sun et al., 2020).
RELATIVISTIC = replace(BCE, classifies=False, compares_pairs=True)
# Lim and Ye, 2017; Miyato et al., 2018, eq. 16 and 17.
HINGE = Loss(
    on_real=lambda logits, target: F.relu(1 - logits).mean(),
    on_fake=lambda logits: F.relu(1 + logits).mean(),
    for_generator=lambda logits: -logits.mean(),
    penalty="real",
)
# Arjovsky et al., 2017; Gulrajani et al., 2017.
WASSERSTEIN = Loss(
    on_real=lambda logits, target: -logits.mean(),
    on_fake=lambda logits: logits.mean(),
    for_generator=lambda logits: -logits.mean(),
    penalty="interpolated",
    classifies=False,
)


def gradient_penalty(
    loss: Loss, discriminator: Network, real: Tensor, fake: Tensor, weights: Tensor
) -> Tensor:
    """Compute the penalty on the discriminator's input gradient, a scalar, before its weight.

    Args:
        loss: decides where the penalty is taken.
        discriminator: maps images to logits.
        real: real images, float32 (n, 1, size, size).
        fake: generated images of the same shape, without a gradient.
        weights: those of the real images in the interpolation, uniform on [0, 1), (n,).
    """
    x = real if loss.penalty == "real" else fake + weights.view(-1, 1, 1, 1) * (real - fake)
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    squared_norm = gradient.square().sum((1, 2, 3))
    if loss.penalty == "real":
        return squared_norm.mean() / 2
    # The root has no derivative at 0, where a dead discriminator would be.
    return ((squared_norm + 1e-12).sqrt() - 1).square().mean()
