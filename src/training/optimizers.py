"""The optimizers that the thesis explains.

Their names stand in ``config.registry.OPTIMIZERS``. Momentum and the decay of mean squares are
``beta1`` and ``beta2``, as Adam calls them, in all of them.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..config.train import OptimizerSettings

Weights = Iterable[nn.Parameter]
Rate = float | Tensor
Optimizer = torch.optim.Optimizer


def make_adam(
    weights: Weights, rate: Rate, settings: OptimizerSettings, capturable: bool
) -> Optimizer:
    """Make Adam (Kingma and Ba, 2015, algorithm 1) in torch's fused form.

    Args:
        weights: of the network.
        rate: learning rate.
        settings: ``beta1`` is the decay of the mean gradient, ``beta2`` that of the mean squares,
            and ``epsilon`` is added to their root.
        capturable: whether a CUDA graph may capture the step; learning rate and step count are on
            the GPU then.
    """
    betas = (settings.beta1, settings.beta2)
    return torch.optim.Adam(
        weights, lr=rate, betas=betas, eps=settings.epsilon, fused=True, capturable=capturable
    )


def make_rmsprop(
    weights: Weights, rate: Rate, settings: OptimizerSettings, capturable: bool
) -> Optimizer:
    """Make RMSProp (Tieleman and Hinton, 2012) with momentum ``beta1``; see ``make_adam``."""
    return torch.optim.RMSprop(
        weights,
        lr=rate,
        alpha=settings.beta2,
        eps=settings.epsilon,
        momentum=settings.beta1,
        capturable=capturable,
    )


def make_sgd(
    weights: Weights, rate: Rate, settings: OptimizerSettings, capturable: bool
) -> Optimizer:
    """Make SGD with momentum ``beta1`` (Polyak, 1964); it has no mean squares."""
    return torch.optim.SGD(weights, lr=rate, momentum=settings.beta1, fused=True)
