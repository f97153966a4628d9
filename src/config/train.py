"""Settings of the networks and of their training."""

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .base import Count, Probability, Section, Seed

Layers = Annotated[tuple[Count, ...], Field(min_length=1)]
Strides = Annotated[tuple[Annotated[int, Field(ge=1, le=4)], ...], Field(min_length=1)]
MAX_MAP_VALUES = 1 << 26  # of one map of one image
Slope = Annotated[float, Field(ge=0, lt=1)]


class GeneratorSettings(Section):
    """The generator: a dense layer, layers that enlarge its map, and a convolution to grey."""

    latent_dim: Count
    base_channels: Count
    channels: Layers
    kernels: Layers
    strides: Strides
    upsampling: str
    output_kernel: Count
    normalization: str
    negative_slope: Slope
    exposure: Literal["learned", "drawn"]

    @model_validator(mode="after")
    def _lists_agree(self) -> Self:
        _same_length(self.channels, self.kernels, self.strides)
        return self

    @property
    def noise_width(self) -> int:
        """Numbers of noise that make an image: the latent, and those of a drawn exposure."""
        return self.latent_dim + (2 if self.exposure == "drawn" else 0)

    def check_image_size(self, image_size: int) -> None:
        """Raise ValueError if the maps do not grow to ``image_size``, or are too large."""
        side = self.base_size(image_size)
        largest = side**2 * self.base_channels
        channels = pairwise((self.base_channels, *self.channels))
        for stride, both in zip(self.strides, channels, strict=True):
            side *= stride
            largest = max(largest, side**2 * max(both))  # an enlarged map has those of before
        if largest > MAX_MAP_VALUES:
            raise ValueError(
                f"a map of {largest} values is too large; at most {MAX_MAP_VALUES} fit"
            )

    def base_size(self, image_size: int) -> int:
        """Return the first map's side in pixels, which the strides enlarge to ``image_size``.

        Raises:
            ValueError: if the strides do not divide ``image_size``.
        """
        growth = math.prod(self.strides)
        if image_size % growth:
            raise ValueError(
                f"the generator's strides multiply to {growth}, which does not divide "
                f"the image size {image_size} (preprocess.image_size)"
            )
        return image_size // growth


class DiscriminatorSettings(Section):
    """The discriminator: strided convolutions, dropout, one dense unit."""

    channels: Layers
    kernels: Layers
    strides: Strides
    normalization: str
    negative_slope: Slope
    dropout: Probability

    @model_validator(mode="after")
    def _lists_agree(self) -> Self:
        _same_length(self.channels, self.kernels, self.strides)
        return self

    def check_image_size(self, image_size: int) -> None:
        """Raise ValueError if the strides do not divide ``image_size`` (pixels)."""
        shrink = math.prod(self.strides)
        if image_size % shrink:
            raise ValueError(
                f"the discriminator's strides multiply to {shrink}, which does not divide "
                f"the image size {image_size} (preprocess.image_size)"
            )


class OptimizerSettings(Section):
    """One network's optimizer; see ``src.training.optimizers``."""

    name: str
    learning_rate: Annotated[float, Field(gt=0)]
    beta1: Probability
    beta2: Probability
    epsilon: Annotated[float, Field(gt=0)]


class OptimizersSettings(Section):
    """The optimizers of the two networks."""

    learning_rate_half_life: Annotated[int, Field(ge=0)]
    generator: OptimizerSettings
    discriminator: OptimizerSettings


class SampleSettings(Section):
    """Grids of images from one fixed noise that are drawn during the training."""

    epochs: tuple[Count, ...]
    rows: Annotated[int, Field(ge=1, le=32)]
    columns: Annotated[int, Field(ge=1, le=32)]


class TrainSettings(Section):
    """Networks and schedule of one class; ``checks.py`` checks the names."""

    architecture: str
    generator: GeneratorSettings
    discriminator: DiscriminatorSettings
    initialization: str
    loss: str
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)]
    gradient_penalty: Annotated[float, Field(ge=0)]
    discriminator_updates: Literal["apart", "together"]
    augmentation: tuple[str, ...]
    augmentation_strength: Annotated[float, Field(gt=0, le=1)]
    ema_decay: Probability
    optimizer: OptimizersSettings
    batch_size: Count
    epochs: Count
    seed: Seed
    samples: SampleSettings

    def check_image_size(self, image_size: int) -> None:
        """Raise ValueError if either network does not fit images of ``image_size`` pixels."""
        self.generator.check_image_size(image_size)
        self.discriminator.check_image_size(image_size)


def _same_length(*lists: tuple[int, ...]) -> None:
    """Raise ValueError unless channels, kernels and strides describe the same layers."""
    channels, kernels, strides = (len(values) for values in lists)
    if not channels == kernels == strides:
        raise ValueError(
            f"channels, kernels and strides must be of one length, "
            f"not {channels}, {kernels} and {strides}"
        )
