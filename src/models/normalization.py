"""Normalisation of a layer's weights (spectral) or of its maps (batch)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..config.registry import NORMALIZATIONS, load

SPECTRAL_STEPS = 15  # power iterations before training, which then adds one a step


class SpectralNorm(nn.Module):
    """Parametrization that divides a weight by its largest singular value.

    Miyato et al., 2018, algorithm 1, with one power iteration for each forward pass in training
    mode. Unlike torch's own it starts from an explicit generator, and keeps the weight's precision
    under autocast.
    """

    def __init__(self, weight: Tensor, output_dim: int) -> None:
        """Allocate the singular vectors; ``output_dim`` is the weight's dimension of outputs."""
        super().__init__()
        self._output_dim = output_dim
        rows, columns = self._as_matrix(weight.detach()).shape
        self.left: Tensor
        self.right: Tensor
        self.register_buffer("left", weight.new_zeros(rows))
        self.register_buffer("right", weight.new_zeros(columns))

    def forward(self, weight: Tensor) -> Tensor:
        """Divide the weight by its estimated largest singular value."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = self._as_matrix(weight)
            if self.training:
                self._iterate(matrix.detach())
            # Copies, since the next pass changes the vectors before this one's gradient is taken.
            return weight / (self.left.clone() @ (matrix @ self.right.clone()))

    @torch.no_grad()
    def restart(self, weight: Tensor, rng: torch.Generator) -> None:
        """Estimate the singular vectors of a new weight, from a random vector."""
        self.right.normal_(generator=rng)
        for _ in range(SPECTRAL_STEPS):
            self._iterate(self._as_matrix(weight))

    def _iterate(self, matrix: Tensor) -> None:
        """Do one power iteration in place."""
        F.normalize(matrix @ self.right, dim=0, out=self.left)
        F.normalize(self.left @ matrix, dim=0, out=self.right)

    def _as_matrix(self, weight: Tensor) -> Tensor:
        """View the weight as a matrix, (outputs, all other dimensions)."""
        return weight.transpose(0, self._output_dim).flatten(1)


def normalize(layer: nn.Module, kind: str) -> nn.Module:
    """Add normalisation to a convolution or dense layer.

    Args:
        layer: a convolution of ``layers.py``, or nn.Linear.
        kind: a key of ``NORMALIZATIONS``.

    Returns:
        the layer itself, or a module that holds it.
    """
    normalized: nn.Module = load(NORMALIZATIONS[kind])(layer)
    return normalized


def none(layer: nn.Module) -> nn.Module:
    """Return the layer as it is."""
    return layer


def batch(layer: nn.Module) -> nn.Module:
    """Let batch normalisation of the channels (Ioffe and Szegedy, 2015) follow a convolution."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))
    return layer


def spectral(layer: nn.Module) -> nn.Module:
    """Divide the layer's weight by its largest singular value (Miyato et al., 2018)."""
    assert isinstance(layer.weight, Tensor)
    output_dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight, output_dim))
    return layer
