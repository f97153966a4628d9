"""The optimizers that the thesis explains.

An optimizer is one entry of ``OPTIMIZERS``, by the value of the parameter ``name``. Momentum and
the decay of mean squares are ``beta1`` and ``beta2``, as Adam calls them, in all of them.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Weights = Iterable[nn.Parameter]
# Learning rate, beta1, beta2, epsilon, and whether a CUDA graph may capture the step: learning rate
# and step count are on the GPU then.
Factory = Callable[[Weights, float | Tensor, float, float, float, bool], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Factory] = {
    # Kingma and Ba, 2015, algorithm 1, in torch's fused form.
    "adam": lambda weights, rate, beta1, beta2, epsilon, capturable: torch.optim.Adam(
        weights, lr=rate, betas=(beta1, beta2), eps=epsilon, fused=True, capturable=capturable
    ),
    # Tieleman and Hinton, 2012.
    "rmsprop": lambda weights, rate, beta1, beta2, epsilon, capturable: torch.optim.RMSprop(
        weights, lr=rate, alpha=beta2, eps=epsilon, momentum=beta1, capturable=capturable
    ),
    # Polyak, 1964; without mean squares, so beta2 and epsilon play no part.
    "sgd": lambda weights, rate, beta1, beta2, epsilon, capturable: torch.optim.SGD(
        weights, lr=rate, momentum=beta1, fused=True
    ),
}
