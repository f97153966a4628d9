import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from src.models.networks import Discriminator, Generator
from tests.models.test_networks import discriminator_settings, generator_settings


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upsampling": "nearest", "kernels": [3, 3, 3]},
        {"channels": [32, 16], "kernels": [4, 5], "strides": [4, 2], "output_kernel": 5},
    ],
)
def test_the_generator_is_counted_as_torch_counts(changes: dict[str, object]) -> None:
    settings = generator_settings(**changes)
    network = Generator(settings, 64).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 100))
    assert sum(Generator.count_flops(settings, 64).values()) == counter.get_total_flops()


@pytest.mark.parametrize("changes", [{}, {"kernels": [4] * 4, "strides": [2] * 4}])
def test_the_discriminator_is_counted_as_torch_counts(changes: dict[str, object]) -> None:
    settings = discriminator_settings(**changes)
    network = Discriminator(settings, 64).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 1, 64, 64))
    assert sum(Discriminator.count_flops(settings, 64).values()) == counter.get_total_flops()
