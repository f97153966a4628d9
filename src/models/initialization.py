"""Initial weights of networks, drawn from explicit random number generators."""

from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..config.registry import INITIALIZATIONS, load
from .normalization import SpectralNorm

Network = TypeVar("Network", bound=nn.Module)


def xavier(weight: Tensor, rng: torch.Generator) -> None:
    """Draw Glorot-uniform weights, Keras's default (Glorot and Bengio, 2010, eq. 16)."""
    nn.init.xavier_uniform_(weight, generator=rng)


def dcgan(weight: Tensor, rng: torch.Generator) -> None:
    """Draw weights from N(0, 0.02^2) (Radford et al., 2016, section 3)."""
    nn.init.normal_(weight, std=0.02, generator=rng)


@torch.no_grad()
def initialize(network: Network, kind: str, rng: torch.Generator) -> Network:
    """Draw all weights in place and set the biases to zero.

    Args:
        network: its dense layers and convolutions are initialised, in the order of ``modules()``.
        kind: a key of ``INITIALIZATIONS``.
        rng: source of the weights and of the first vectors of spectral normalisation.

    Returns:
        the same network.
    """
    for module in network.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        weight, norm = _trained_weight(module)
        load(INITIALIZATIONS[kind])(weight, rng)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if norm is not None:
            norm.restart(weight, rng)
    return network


def initialize_for_relu(network: Network, rng: torch.Generator) -> Network:
    """Draw He-normal weights for ReLU networks (He et al., 2015) in place, with zero biases.

    Returns:
        the same network.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _trained_weight(layer: nn.Module) -> tuple[Tensor, SpectralNorm | None]:
    """Return the weight that is trained, and its spectral normalisation if it has one."""
    if not parametrize.is_parametrized(layer, "weight"):
        return cast(Tensor, layer.weight), None
    parts = cast(nn.ModuleDict, layer.parametrizations)["weight"]
    return cast(Tensor, parts.original), cast(SpectralNorm, cast(nn.ModuleList, parts)[0])
