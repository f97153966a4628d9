"""Layers with TensorFlow's "same" padding, and dropout from an explicit generator.

Keras pads so that a layer's output has ``ceil(input / stride)`` pixels, and puts an odd pixel of
padding at the right and bottom; torch pads both sides alike. The thesis's networks need the
former.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """Convolution whose output has ``ceil(input / stride)`` pixels a side.

    An odd pixel of padding is at the left and top. That is the mirror image of TensorFlow's
    layer: turned by 180 degrees, input and kernel give TensorFlow's output, turned as well. torch
    pads both sides alike, and only here does that cost nothing: behind a stride the last pixel of
    padding is never reached.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride)
        self._kernel, self._stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, h, w) to (n, out, ceil(h / stride), ceil(w / stride))."""
        height, width = (-(-size // self._stride) for size in x.shape[2:])
        above, before = self._missing(x.shape[2], height), self._missing(x.shape[3], width)
        # A slice, even of everything, would copy the gradient.
        if min(above, before) < 0:
            x = x[:, :, max(-above, 0) :, max(-before, 0) :]
        padding = (max(above + 1, 0) // 2, max(before + 1, 0) // 2)
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding)
        # At stride 1 an even kernel makes one pixel more.
        return y if y.shape[2:] == (height, width) else y[:, :, :height, :width]

    def _missing(self, size: int, out: int) -> int:
        """Pixels that ``size`` lacks for ``out`` windows; negative where some are not used."""
        return (out - 1) * self._stride + self._kernel - size


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
        assert self.bias is not None
        y = F.conv_transpose2d(x, self.weight, self.bias.detach(), self.stride, self._padding)
        y = _BiasGradient.apply(y, self.bias)
        return y[:, :, : y.shape[2] - 1, : y.shape[3] - 1] if self._crop else y


class ChannelsLastGradient(torch.autograd.Function):
    """The identity, whose gradient is laid out as channels_last.

    Behind a convolution with one output channel oneDNN returns a gradient in the default layout,
    and every layer before it would then work several times slower.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """``x``, of shape (n, channels, h, w)."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient, copied if its layout is another."""
        return gradients[0].contiguous(memory_format=torch.channels_last)


class _BiasGradient(torch.autograd.Function):
    """The identity for a map that ``bias`` was added to, which gives the bias its gradient.

    The gradient is a sum over all pixels. torch's own, for transposed convolutions on the CPU,
    takes longer than the convolution itself; a product with ones takes a tenth of that.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor) -> Tensor:
        ctx.mark_dirty(y)  # not a view, so that an activation may work in place
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        pixels = gradients[0].permute(0, 2, 3, 1).flatten(0, 2)
        return gradients[0], pixels.new_ones(len(pixels)) @ pixels


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al., 2014) whose mask comes from an explicit generator.

    Each value is decided by 16 random bits, four values by one number of 64, because a generator
    on the CPU makes its numbers one after another; the rate is rounded to a multiple of 1 / 65536.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self._dropped = round(rate * 65536)
        self.random: torch.Generator | None = None
        self.part = (0, 1)  # x is this one of so many equal parts of a batch

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share of the values and scale the rest; the identity in eval mode."""
        if not self.training or self._dropped == 0:
            return x
        if self.random is None:
            raise RuntimeError("set Dropout.random to a torch.Generator before training")
        index, parts = self.part
        # For the whole batch, so that a value's fate does not depend on how the batch was split.
        words = torch.empty(-(-x.numel() * parts // 4), dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None, generator=self.random)
        start = index * x.numel()
        bits = words.view(torch.int16)[start : start + x.numel()]  # uniform, -32768 to 32767
        bits = bits.view(x.shape)
        kept = (bits >= self._dropped - 32768).to(x.dtype)
        return x * kept.mul_(65536 / (65536 - self._dropped))


def initialize_keras(network: nn.Module, random: torch.Generator) -> None:
    """Keras's defaults: Glorot-uniform weights (Glorot and Bengio, 2010, eq. 16), zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight, generator=random)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
