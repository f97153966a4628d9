"""Nominal floating-point operations of the networks: what comparisons of compute count.

A multiplication and an addition are two operations. Only convolutions and dense layers count;
normalisation, activations and what an implementation does besides do not.
"""

from ..config.train import DiscriminatorSettings, GeneratorSettings, TrainSettings
from .layers import UPSAMPLINGS


def generator_flops(settings: GeneratorSettings, image_size: int) -> dict[str, float]:
    """Operations that the generator needs for one image, by layer."""
    side = settings.base_size(image_size)
    before = settings.base_channels
    flops = {"dense": 2.0 * settings.latent_dim * side * side * before}
    shapes = zip(settings.channels, settings.kernels, settings.strides, strict=True)
    for index, (after, kernel, stride) in enumerate(shapes, 1):
        width = UPSAMPLINGS[settings.upsampling].width(kernel, stride)
        flops[f"upsampling {index}"] = 2.0 * side**2 * width**2 * before * after
        side, before = side * stride, after
    flops["output"] = 2.0 * side**2 * settings.output_kernel**2 * before
    return flops


def discriminator_flops(settings: DiscriminatorSettings, image_size: int) -> dict[str, float]:
    """Operations that the discriminator needs for one image, by layer."""
    side, before = image_size, 1
    flops: dict[str, float] = {}
    shapes = zip(settings.channels, settings.kernels, settings.strides, strict=True)
    for index, (after, kernel, stride) in enumerate(shapes, 1):
        side //= stride
        flops[f"convolution {index}"] = 2.0 * side**2 * kernel**2 * before * after
        before = after
    flops["dense"] = 2.0 * side**2 * before
    return flops


def forward_flops(settings: TrainSettings, image_size: int) -> float:
    """Operations of one pass through both networks for one image."""
    generator = generator_flops(settings.generator, image_size)
    discriminator = discriminator_flops(settings.discriminator, image_size)
    return sum(generator.values()) + sum(discriminator.values())


def update_flops(settings: TrainSettings, image_size: int) -> dict[str, float]:
    """Operations that a step needs for one image, by update; gradient penalties do not count.

    A layer's gradient with respect to its weights costs what its forward pass does, that with
    respect to its input as well.
    """
    generator = generator_flops(settings.generator, image_size)
    discriminator = discriminator_flops(settings.discriminator, image_size)
    g, d = sum(generator.values()), sum(discriminator.values())
    return {
        "D on real": 3 * d - discriminator["convolution 1"],  # the image needs no gradient
        "D on generated": g + 3 * d - discriminator["convolution 1"],
        "G": 3 * g - generator["dense"] + 2 * d,  # D's weights need none
    }
