"""The "dcgan" generator and discriminator, described by lists of channels, kernels and strides.

The thesis's networks are one point of this family: 2,704,897 and 2,099,457 parameters. Operations
are nominal: a multiplication and an addition are two, and only convolutions and dense layers count.
"""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config.registry import UPSAMPLINGS, load
from ..config.train import DiscriminatorSettings, GeneratorSettings
from .exposure import WIDTH, Exposure, standardise
from .layers import ChannelsLastGradient, Dropout, SameConv2d
from .normalization import normalize


class Generator(nn.Module):
    """Network from latent noise to grey images.

    A dense layer makes a small map, layers of ``UPSAMPLINGS`` enlarge it, and a convolution makes
    one channel; normalisation and LeakyReLU in between, tanh at the end.
    """

    architecture = "dcgan"

    def __init__(self, settings: GeneratorSettings, image_size: int) -> None:
        """Build the layers, with torch's default weights, for images of ``image_size`` pixels.

        Raises:
            ValueError: if the strides do not divide ``image_size``.
        """
        super().__init__()
        self.settings = settings
        self.image_size = image_size
        # As in Keras, the channels come last.
        self._base = (*2 * (settings.base_size(image_size),), settings.base_channels)
        kind = settings.normalization
        self.dense = normalize(
            nn.Linear(settings.noise_width, torch.Size(self._base).numel()), kind
        )
        self.normalization = (
            nn.BatchNorm2d(settings.base_channels) if kind == "batch" else nn.Identity()
        )
        self.activation = nn.LeakyReLU(settings.negative_slope, inplace=True)
        widths = (settings.base_channels, *settings.channels)
        shapes = zip(pairwise(widths), settings.kernels, settings.strides, strict=True)
        upsampling = load(UPSAMPLINGS[settings.upsampling])
        self.upsampling = nn.ModuleList(
            normalize(upsampling(before, after, kernel, stride), kind)
            for (before, after), kernel, stride in shapes
        )
        output = SameConv2d(widths[-1], 1, settings.output_kernel)
        self.output = normalize(output, "none" if kind == "batch" else kind)
        self.exposure = Exposure() if settings.exposure == "drawn" else None

    def fit(self, images: NDArray[np.uint8]) -> None:
        """Take from the train images, uint8 (n, size, size), what is not learnt by gradients."""
        if self.exposure is not None:
            self.exposure.fit(images)

    def forward(self, noise: Tensor) -> Tensor:
        """Generate (n, 1, side, side) from N(0, 1) noise (n, noise_width).

        Values are in [-1, 1]; with drawn exposures some may lie beyond, and are cut in the end.
        """
        x = self.dense(noise).view(-1, *self._base).permute(0, 3, 1, 2)
        x = self.activation(self.normalization(x))
        for layer in self.upsampling:
            x = self.activation(layer(x))
        if x.is_contiguous(memory_format=torch.channels_last):
            x = ChannelsLastGradient.apply(x)
        x = self.output(x)
        if self.exposure is None:
            return torch.tanh(x)
        mean, contrast = self.exposure(noise[:, :WIDTH])
        return mean + contrast * standardise(x)

    @staticmethod
    def count_flops(settings: GeneratorSettings, image_size: int) -> dict[str, float]:
        """Count the operations for one image, by layer; the first layer comes first."""
        side = settings.base_size(image_size)
        before = settings.base_channels
        flops = {"dense": 2.0 * settings.noise_width * side * side * before}
        shapes = zip(settings.channels, settings.kernels, settings.strides, strict=True)
        for index, (after, kernel, stride) in enumerate(shapes, 1):
            footprint = load(UPSAMPLINGS[settings.upsampling]).footprint(kernel, stride)
            flops[f"upsampling {index}"] = 2.0 * side**2 * footprint**2 * before * after
            side, before = side * stride, after
        flops["output"] = 2.0 * side**2 * settings.output_kernel**2 * before
        return flops


class Discriminator(nn.Module):
    """Network from grey images to one logit, positive where an image looks real.

    The sigmoid of the thesis is left to the loss, which is then computed without overflow; the
    gradients are the same.
    """

    architecture = "dcgan"

    def __init__(self, settings: DiscriminatorSettings, image_size: int) -> None:
        """Build the layers, with torch's default weights, for images of ``image_size`` pixels.

        Raises:
            ValueError: if the strides do not divide ``image_size``.
        """
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
        """Compute the logits (n,) of images (n, 1, image_size, image_size) in [-1, 1]."""
        # Turned by 180 degrees, since the odd pixel of padding is on the other side here.
        x = images.flip(2, 3)
        for layer in self.convolutions:
            x = self.activation(layer(x))
        return self.dense(self.dropout(x.permute(0, 2, 3, 1).flatten(1))).squeeze(1)

    @staticmethod
    def count_flops(settings: DiscriminatorSettings, image_size: int) -> dict[str, float]:
        """Count the operations for one image, by layer; the first layer comes first."""
        side, before = image_size, 1
        flops: dict[str, float] = {}
        shapes = zip(settings.channels, settings.kernels, settings.strides, strict=True)
        for index, (after, kernel, stride) in enumerate(shapes, 1):
            side //= stride
            flops[f"convolution {index}"] = 2.0 * side**2 * kernel**2 * before * after
            before = after
        flops["dense"] = 2.0 * side**2 * before
        return flops


DCGAN = (Generator, Discriminator)


def count_parameters(network: nn.Module) -> int:
    """Count the trained values of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
