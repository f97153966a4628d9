"""The trained generators, and images that they draw from noise that a key names."""

import numpy as np
import torch
from numpy.typing import NDArray

from src.common.paths import generator_path
from src.common.rng import random_stream
from src.data.classes import CLASSES
from src.models.io import load_generator
from src.models.networks import Generator
from src.models.sampling import generate


def load_generators(device: torch.device) -> list[Generator]:
    """The generator of each class, in their order."""
    return [load_generator(generator_path(label), device).network for label in CLASSES]


def new_images(
    generator: Generator, count: int, device: torch.device, *key: int
) -> NDArray[np.uint8]:
    """So many images from the noise that ``key`` names, uint8 (count, size, size)."""
    stream = random_stream(torch.device("cpu"), *key)
    noise = torch.randn((count, generator.settings.latent_dim), generator=stream)
    return generate(generator, noise.to(device))
