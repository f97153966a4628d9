"""The generator and the discriminator, described by lists of channels, kernels and strides.

The thesis's networks are one point of this family: 2,704,897 and 2,099,457 parameters.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ..config.train import DiscriminatorSettings, GeneratorSettings
from .layers import UPSAMPLINGS, ChannelsLastGradient, Dropout, SameConv2d, normalize


class Generator(nn.Module):
    """From latent noise to grey images.

    A dense layer makes a small map, layers of ``UPSAMPLINGS`` enlarge it, and a convolution makes
    one channel; normalisation and LeakyReLU in between, tanh at the end.
    """

    def __init__(self, settings: GeneratorSettings, image_size: int) -> None:
        super().__init__()
        self.settings = settings
        self.image_size = image_size
        # As in Keras, the channels come last.
        self._base = (*2 * (settings.base_size(image_size),), settings.base_channels)
        kind = settings.normalization
        self.dense = normalize(nn.Linear(settings.latent_dim, torch.Size(self._base).numel()), kind)
        self.normalization = (
            nn.BatchNorm2d(settings.base_channels) if kind == "batch" else nn.Identity()
        )
        self.activation = nn.LeakyReLU(settings.negative_slope, inplace=True)
        widths = (settings.base_channels, *settings.channels)
        shapes = zip(pairwise(widths), settings.kernels, settings.strides, strict=True)
        upsampling = UPSAMPLINGS[settings.upsampling]
        self.upsampling = nn.ModuleList(
            normalize(upsampling(before, after, kernel, stride), kind)
            for (before, after), kernel, stride in shapes
        )
        output = SameConv2d(widths[-1], 1, settings.output_kernel)
        self.output = normalize(output, "none" if kind == "batch" else kind)

    def forward(self, noise: Tensor) -> Tensor:
        """(n, latent) of N(0, 1) to (n, 1, image_size, image_size) in [-1, 1]."""
        x = self.dense(noise).view(-1, *self._base).permute(0, 3, 1, 2)
        x = self.activation(self.normalization(x))
        for layer in self.upsampling:
            x = self.activation(layer(x))
        if x.is_contiguous(memory_format=torch.channels_last):
            x = ChannelsLastGradient.apply(x)
        return torch.tanh(self.output(x))


class Discriminator(nn.Module):
    """From grey images to one logit, positive where an image looks real.

    The sigmoid of the thesis is left to the loss, which is then computed without overflow; the
    gradients are the same.
    """

    def __init__(self, settings: DiscriminatorSettings, image_size: int) -> None:
        super().__init__()
        settings.check_image_size(image_size)
        widths = (1, *settings.channels)
        shapes = zip(pairwise(widths), settings.kernels, settings.strides, strict=True)
        kind = settings.normalization
        self.convolutions = nn.ModuleList(
            # Batch normalisation of the first layer would hide the images' brightness.
            normalize(
                SameConv2d(before, after, kernel, stride),
                "none" if kind == "batch" and index == 0 else kind,
            )
            for index, ((before, after), kernel, stride) in enumerate(shapes)
        )
        self.activation = nn.LeakyReLU(settings.negative_slope, inplace=True)
        self.dropout = Dropout(settings.dropout)
        side = image_size
        for stride in settings.strides:
            side //= stride
        # Free under spectral normalisation too, since the logits need a scale.
        self.dense = nn.Linear(settings.channels[-1] * side * side, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, image_size, image_size) in [-1, 1] to (n,) logits."""
        # Turned by 180 degrees, since the odd pixel of padding is on the other side here.
        x = images.flip(2, 3)
        for layer in self.convolutions:
            x = self.activation(layer(x))
        return self.dense(self.dropout(x.permute(0, 2, 3, 1).flatten(1))).squeeze(1)


def count_parameters(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())
