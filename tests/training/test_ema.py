import pytest
import torch
from torch import nn

from src.models.initialization import initialize
from src.models.normalization import normalize
from src.training.ema import EMA


def set_to(layer: nn.Linear, value: float) -> None:
    nn.init.constant_(layer.weight, value)


def test_it_is_the_exponential_moving_average_after_a_short_start() -> None:
    """Against the recursion in plain numbers: the decay grows to its value from 0."""
    layer = nn.Linear(1, 1)
    set_to(layer, 100.0)
    ema = EMA(layer, decay=0.5)
    expected = 100.0
    for step in range(1, 30):
        set_to(layer, float(step))
        ema.update(layer)
        decay = min(0.5, (step - 1) / (step + 9))
        expected = decay * expected + (1 - decay) * step
        found = ema.network.state_dict()["weight"]
        assert float(found) == pytest.approx(expected, rel=1e-6)
    assert float(layer.weight.detach()) == 29
    assert layer.weight.requires_grad
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())


def test_running_statistics_are_averaged_and_counters_and_spectral_vectors_copied() -> None:
    network = nn.Sequential(
        normalize(nn.Conv2d(1, 2, 3), "batch"), normalize(nn.Linear(3, 3), "spectral")
    )
    initialize(network, "xavier", torch.Generator().manual_seed(0))
    ema = EMA(network, decay=0.9)
    for step in range(12):
        network(torch.full((4, 1, 5, 5), float(step)) + torch.randn(4, 1, 5, 5))
        ema.update(network)
    mine, other = ema.network.state_dict(), network.state_dict()
    assert mine["0.1.num_batches_tracked"] == 12
    assert not torch.equal(mine["0.1.running_mean"], other["0.1.running_mean"])
    assert torch.equal(
        mine["1.parametrizations.weight.0.left"], other["1.parametrizations.weight.0.left"]
    )


def test_it_can_be_taken_up() -> None:
    layer = nn.Linear(2, 2)
    one = EMA(layer, 0.9)
    for _ in range(3):
        nn.init.normal_(layer.weight)
        one.update(layer)
    other = EMA(nn.Linear(2, 2), 0.9)
    other.load_state_dict(one.state_dict())
    nn.init.normal_(layer.weight)
    for ema in (one, other):
        ema.update(layer)
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name])
