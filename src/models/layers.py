"""Layers with TensorFlow's "same" padding, normalisation, and what draws from explicit generators.

Keras pads so that a layer's output has ``ceil(input / stride)`` pixels, and puts an odd pixel of
padding at the right and bottom; torch pads both sides alike. The thesis's networks need the
former.
"""

import functools
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

Network = TypeVar("Network", bound=nn.Module)
SPECTRAL_STEPS = 15  # of the power method before training; it then goes on by one a step


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
        super().__init__(in_channels, out_channels, kernel, stride)
        extra = self.width(kernel, stride) - stride
        # torch crops both sides alike; an odd pixel more is cropped at the end by hand.
        self._padding, self._crop = extra // 2, extra % 2

    @staticmethod
    def width(kernel: int, stride: int) -> int:
        """Pixels a side that one pixel of the input reaches in the output."""
        return kernel

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(n, in, h, w) to (n, out, h * stride, w * stride)."""
        if output_size is not None:
            raise ValueError("the output size follows from the stride")
        assert self.bias is not None
        y = F.conv_transpose2d(x, self._spread(), self.bias.detach(), self.stride, self._padding)
        y = _BiasGradient.apply(y, self.bias)
        return y[:, :, : y.shape[2] - 1, : y.shape[3] - 1] if self._crop else y

    def _spread(self) -> Tensor:
        """What a pixel of the input adds to the output, (in, out, width, width)."""
        return self.weight


class NearestConv2d(SameConvTranspose2d):
    """Enlargement to the nearest neighbour, then a convolution: no grid artefacts.

    Odena et al., 2016, "Deconvolution and checkerboard artifacts". Both together are a transposed
    convolution, whose kernel is this layer's summed over the ``stride x stride`` pixels that one
    pixel of the input becomes; so no enlarged map is made, and at stride 2 a 3x3 kernel costs
    4/9 of the operations. The convolution's kernel is the weight turned by 180 degrees.
    """

    @staticmethod
    def width(kernel: int, stride: int) -> int:
        """Pixels a side that one pixel of the input reaches in the output."""
        return kernel + stride - 1

    def _spread(self) -> Tensor:
        more = self.stride[0] - 1
        rows = [F.pad(self.weight, (0, 0, i, more - i)) for i in range(more + 1)]
        tall = functools.reduce(torch.add, rows)
        columns = [F.pad(tall, (i, more - i)) for i in range(more + 1)]
        return functools.reduce(torch.add, columns)


# By the names that the parameters use.
UPSAMPLINGS = {"transposed": SameConvTranspose2d, "nearest": NearestConv2d}


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
        self._dropped = min(round(rate * 65536), 65535)  # some stay
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


class SpectralNorm(nn.Module):
    """The parametrization that divides weights by their largest singular value.

    Miyato et al., 2018, algorithm 1: one step of the power method for each forward pass of a
    training. Unlike torch's it starts from an explicit generator, and stays in the weights'
    precision under autocast.
    """

    def __init__(self, weight: Tensor, dim: int) -> None:
        """``dim`` of the weight is that of the layer's outputs."""
        super().__init__()
        self._dim = dim
        rows, columns = self._matrix(weight.detach()).shape
        self.left: Tensor
        self.right: Tensor
        self.register_buffer("left", weight.new_zeros(rows))
        self.register_buffer("right", weight.new_zeros(columns))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight over its largest singular value."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = self._matrix(weight)
            if self.training:
                self._step(matrix.detach())
            # Copies, since the next pass changes them before this one's gradient is taken.
            return weight / (self.left.clone() @ (matrix @ self.right.clone()))

    @torch.no_grad()
    def start(self, weight: Tensor, random: torch.Generator) -> None:
        """Begin anew for these weights, from a random vector."""
        self.right.normal_(generator=random)
        for _ in range(SPECTRAL_STEPS):
            self._step(self._matrix(weight))

    def _step(self, matrix: Tensor) -> None:
        """One step of the power method."""
        F.normalize(matrix @ self.right, dim=0, out=self.left)
        F.normalize(self.left @ matrix, dim=0, out=self.right)

    def _matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix with a row for each output."""
        return weight.transpose(0, self._dim).flatten(1)


NORMALIZATIONS = ("none", "batch", "spectral")


def normalize(layer: nn.Module, kind: str) -> nn.Module:
    """A convolution or dense layer with what normalises it.

    Args:
        layer: a layer of this file, or nn.Linear.
        kind: "none"; "batch" (Ioffe and Szegedy, 2015), which follows a convolution and acts on
            its channels; or "spectral" (Miyato et al., 2018).
    """
    if kind == "spectral":
        assert isinstance(layer.weight, Tensor)
        outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight, outputs))
    elif kind == "batch" and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))
    return layer


def _xavier(weight: Tensor, random: torch.Generator) -> None:
    """Keras's default: Glorot-uniform (Glorot and Bengio, 2010, eq. 16)."""
    nn.init.xavier_uniform_(weight, generator=random)


def _dcgan(weight: Tensor, random: torch.Generator) -> None:
    """N(0, 0.02^2) (Radford et al., 2016, section 3)."""
    nn.init.normal_(weight, std=0.02, generator=random)


# By the names that the parameters use.
INITIALIZATIONS = {"xavier": _xavier, "dcgan": _dcgan}


@torch.no_grad()
def initialize(network: Network, kind: str, random: torch.Generator) -> Network:
    """Draw all weights as ``INITIALIZATIONS`` says, zero the biases, and give the network back."""
    for module in network.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        weight, norm = _own_weight(module)
        INITIALIZATIONS[kind](weight, random)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if norm is not None:
            norm.start(weight, random)
    return network


def _own_weight(layer: nn.Module) -> tuple[Tensor, SpectralNorm | None]:
    """The weight that is trained, and what normalises it."""
    if not parametrize.is_parametrized(layer, "weight"):
        return cast(Tensor, layer.weight), None
    parts = cast(nn.ModuleDict, layer.parametrizations)["weight"]
    return cast(Tensor, parts.original), cast(SpectralNorm, cast(nn.ModuleList, parts)[0])
