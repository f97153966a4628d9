"""Weights of classifiers before they are trained."""

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def initialize_for_relu(network: Network, random: torch.Generator) -> Network:
    """He initialisation (He et al., 2015) and zero biases, in place; gives the network back."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=random)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
