import pytest
import torch
from torch import nn

from src.models.initialization import initialize
from src.models.normalization import normalize


def test_initialisation_is_glorot_uniform_with_zero_biases() -> None:
    network = nn.Sequential(
        nn.Linear(300, 200), nn.Conv2d(32, 64, 3), nn.ConvTranspose2d(64, 32, 4)
    )
    initialize(network, "xavier", torch.Generator().manual_seed(1))
    fans = [(300, 200), (32 * 9, 64 * 9), (32 * 16, 64 * 16)]
    for layer, (fan_in, fan_out) in zip(network, fans, strict=True):
        assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        limit = (6 / (fan_in + fan_out)) ** 0.5
        weight = layer.weight.detach()
        assert float(weight.abs().max()) <= limit
        assert float(weight.abs().max()) > 0.99 * limit
        assert abs(float(weight.std()) / (limit / 3**0.5) - 1) < 0.02
        assert layer.bias is not None
        assert not layer.bias.any()


def test_dcgan_weights_are_normal_with_a_small_deviation() -> None:
    network = nn.Sequential(nn.Linear(300, 200), nn.Conv2d(32, 64, 3))
    initialize(network, "dcgan", torch.Generator().manual_seed(1))
    for layer in network:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        assert abs(float(layer.weight.detach().std()) / 0.02 - 1) < 0.02
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize("kind", ["xavier", "dcgan"])
@pytest.mark.parametrize("normalization", ["none", "spectral"])
def test_weights_come_from_the_stream_alone(kind: str, normalization: str) -> None:
    found = []
    for number in range(2):
        torch.manual_seed(number)
        layer = normalize(nn.Linear(5, 6), normalization)
        initialize(nn.Sequential(layer), kind, torch.Generator().manual_seed(3))
        found.append(layer.eval()(torch.eye(5)))
    assert torch.equal(found[0], found[1])
