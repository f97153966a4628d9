"""Layers with TensorFlow's "same" padding, and dropout from an explicit generator.

Keras pads so that a layer's output has ``ceil(input / stride)`` pixels, and puts an odd pixel of
padding at the right and bottom; torch pads both sides alike. The thesis's networks need the
former.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """Convolution whose output has ``ceil(input / stride)`` pixels a side."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride)
        self._kernel, self._stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, h, w) to (n, out, ceil(h / stride), ceil(w / stride))."""
        top, bottom = self._padding(x.shape[2])
        left, right = self._padding(x.shape[3])
        if top == bottom and left == right:
            padded, padding = x, (top, left)
        else:
            padded, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        return F.conv2d(padded, self.weight, self.bias, self.stride, padding)

    def _padding(self, size: int) -> tuple[int, int]:
        """Pixels before and after, for ``size`` pixels."""
        out = -(-size // self._stride)
        total = max((out - 1) * self._stride + self._kernel - size, 0)
        return total // 2, total - total // 2


class SameConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution whose output has ``input * stride`` pixels a side.

    It is the transpose of ``SameConv2d`` from the output to the input, so ``kernel - stride``
    pixels are cropped, the odd one at the right and bottom; the kernel is at least the stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        extra = kernel - stride
        # torch crops both sides alike; an odd pixel more is cropped at the end by hand.
        super().__init__(in_channels, out_channels, kernel, stride)
        self._padding, self._crop = extra // 2, extra % 2

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(n, in, h, w) to (n, out, h * stride, w * stride)."""
        if output_size is not None:
            raise ValueError("the output size follows from the stride")
        y = F.conv_transpose2d(x, self.weight, self.bias, self.stride, self._padding)
        return y[:, :, : y.shape[2] - 1, : y.shape[3] - 1] if self._crop else y


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al., 2014) whose mask comes from an explicit generator."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.random: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share ``rate`` of the values and scale the rest; the identity in eval mode."""
        if not self.training or self.rate == 0:
            return x
        if self.random is None:
            raise RuntimeError("set Dropout.random to a torch.Generator before training")
        kept = torch.empty_like(x).bernoulli_(1 - self.rate, generator=self.random)
        return x * kept.div_(1 - self.rate)


def initialize_keras(network: nn.Module, random: torch.Generator) -> None:
    """Keras's defaults: Glorot-uniform weights (Glorot and Bengio, 2010, eq. 16), zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight, generator=random)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
