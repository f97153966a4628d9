"""Convolutions with TensorFlow's "same" padding, and dropout from an explicit generator.

Keras pads so that a layer's output has ``ceil(input / stride)`` pixels, and puts an odd pixel of
padding at the right and bottom; torch pads both sides alike. The thesis's networks need the
former.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """Convolution whose output has ``ceil(input / stride)`` pixels a side.

    It pads like TensorFlow's SAME, but puts an odd pixel at the left and top instead of right and
    bottom. So input and kernel turned by 180 degrees give TensorFlow's output, turned as well. On
    this side torch's symmetric padding needs no copy, because a convolution with a stride never
    reads the last pixel of padding.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride)
        self._kernel, self._stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (n, in, h, w) to (n, out, ceil(h / stride), ceil(w / stride))."""
        height, width = (-(-size // self._stride) for size in x.shape[2:])
        top = self._missing_pixels(x.shape[2], height)
        left = self._missing_pixels(x.shape[3], width)
        # A slice, even of everything, would copy the gradient.
        if min(top, left) < 0:
            x = x[:, :, max(-top, 0) :, max(-left, 0) :]
        padding = (max(top + 1, 0) // 2, max(left + 1, 0) // 2)
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding)
        # At stride 1 an even kernel makes one pixel more.
        return y if y.shape[2:] == (height, width) else y[:, :, :height, :width]

    def _missing_pixels(self, size: int, windows: int) -> int:
        """Count the pixels that ``size`` lacks for so many windows; negative if some are unused."""
        return (windows - 1) * self._stride + self._kernel - size


class SameConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution whose output has ``input * stride`` pixels a side.

    It is the transpose of ``SameConv2d`` from the output to the input, so ``kernel - stride``
    pixels are cropped, the odd one at the right and bottom; the kernel is at least the stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, kernel, stride)
        extra = self.footprint(kernel, stride) - stride
        # torch crops both sides alike; an odd pixel more is cropped at the end by hand.
        self._padding, self._crop = extra // 2, extra % 2

    @staticmethod
    def footprint(kernel: int, stride: int) -> int:
        """Return the pixels a side that one pixel of the input reaches in the output."""
        return kernel

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Enlarge (n, in, h, w) to (n, out, h * stride, w * stride)."""
        if output_size is not None:
            raise ValueError("the output size follows from the stride")
        assert self.bias is not None
        y = F.conv_transpose2d(
            x, self._effective_kernel(), self.bias.detach(), self.stride, self._padding
        )
        y = _BiasGradient.apply(y, self.bias)
        return y[:, :, : y.shape[2] - 1, : y.shape[3] - 1] if self._crop else y

    def _effective_kernel(self) -> Tensor:
        """Return what a pixel of the input adds to the output, (in, out, footprint, footprint)."""
        return self.weight


class NearestConv2d(SameConvTranspose2d):
    """Nearest-neighbour enlargement followed by a convolution, which leaves no grid artefacts.

    Odena et al., 2016, "Deconvolution and checkerboard artifacts". Both together are a transposed
    convolution, whose kernel is this layer's summed over the ``stride x stride`` pixels that one
    pixel of the input becomes; so no enlarged map is made, and at stride 2 a 3x3 kernel costs
    4/9 of the operations. The convolution's kernel is the weight turned by 180 degrees.
    """

    @staticmethod
    def footprint(kernel: int, stride: int) -> int:
        """Return the pixels a side that one pixel of the input reaches in the output."""
        return kernel + stride - 1

    def _effective_kernel(self) -> Tensor:
        shifts = self.stride[0] - 1
        rows = [F.pad(self.weight, (0, 0, i, shifts - i)) for i in range(shifts + 1)]
        tall = functools.reduce(torch.add, rows)
        columns = [F.pad(tall, (i, shifts - i)) for i in range(shifts + 1)]
        return functools.reduce(torch.add, columns)


class ChannelsLastGradient(torch.autograd.Function):
    """Identity whose gradient is laid out as channels_last.

    Behind a convolution with one output channel oneDNN returns a gradient in the default layout,
    and every layer before it would then work several times slower.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return ``x``, (n, channels, h, w), unchanged."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient, copied if its layout is another."""
        return gradients[0].contiguous(memory_format=torch.channels_last)


class _BiasGradient(torch.autograd.Function):
    """Identity for a map that ``bias`` was added to, which gives the bias its gradient.

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
        """``rate`` is the fraction of values that are dropped, in [0, 1)."""
        super().__init__()
        self.rate = rate
        self._dropped = min(round(rate * 65536), 65535)  # some stay
        self.rng: torch.Generator | None = None  # to be set before training
        self.batch_part = (0, 1)  # index of this process's part of a batch, and number of parts

    def forward(self, x: Tensor) -> Tensor:
        """Zero random values and scale the rest; the identity in eval mode."""
        if not self.training or self._dropped == 0:
            return x
        if self.rng is None:
            raise RuntimeError("set Dropout.rng to a torch.Generator before training")
        index, parts = self.batch_part
        # For the whole batch, so that a value's fate does not depend on how the batch was split.
        words = torch.empty(-(-x.numel() * parts // 4), dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None, generator=self.rng)
        start = index * x.numel()
        bits = words.view(torch.int16)[start : start + x.numel()]  # uniform, -32768 to 32767
        bits = bits.view(x.shape)
        kept = (bits >= self._dropped - 32768).to(x.dtype)
        return x * kept.mul_(65536 / (65536 - self._dropped))
