"""Nominal floating-point operations of a training, which comparisons of compute count."""

from ..config.train import TrainSettings
from .architectures import load_architecture


def layer_flops(settings: TrainSettings, image_size: int) -> dict[str, dict[str, float]]:
    """Count the operations of each network's forward pass for one image, by layer."""
    networks = load_architecture(settings.architecture)
    return {
        "generator": networks.generator.count_flops(settings.generator, image_size),
        "discriminator": networks.discriminator.count_flops(settings.discriminator, image_size),
    }


def forward_flops(settings: TrainSettings, image_size: int) -> float:
    """Count the operations of one pass through both networks for one image."""
    return sum(sum(layers.values()) for layers in layer_flops(settings, image_size).values())


def update_flops(settings: TrainSettings, image_size: int) -> dict[str, float]:
    """Count the operations of a training step for one image, by update.

    A layer's gradient with respect to its weights costs what its forward pass does, that with
    respect to its input as well. Gradient penalties are not counted.
    """
    layers = layer_flops(settings, image_size)
    g, d = (sum(layers[network].values()) for network in ("generator", "discriminator"))
    first_g, first_d = (next(iter(flops.values())) for flops in layers.values())
    return {
        "D on real": 3 * d - first_d,  # the image needs no gradient
        "D on generated": g + 3 * d - first_d,
        "G": 3 * g - first_g + 2 * d,  # D's weights need none
    }
