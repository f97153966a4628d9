import numpy as np
import pytest
import torch
from torch import nn

from src.models.initialization import initialize
from src.models.layers import NearestConv2d, SameConv2d, SameConvTranspose2d
from src.models.normalization import normalize


@pytest.mark.parametrize("layer", [
    nn.Linear(20, 30), SameConv2d(4, 6, 3, 2), SameConvTranspose2d(4, 6, 4, 2),
    NearestConv2d(4, 6, 3, 2),
])  # fmt: skip
def test_spectral_weights_have_a_largest_singular_value_of_one(layer: nn.Module) -> None:
    layer = normalize(layer.double(), "spectral")
    initialize(layer, "xavier", torch.Generator().manual_seed(1))
    layer.train()
    for _ in range(50):  # each is a step of the power method
        weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(0, 1)  # (in, out) to (out, in)
    largest = np.linalg.svd(weight.detach().flatten(1).numpy(), compute_uv=False)[0]
    assert largest == pytest.approx(1, abs=1e-3)


def test_a_spectral_norm_is_repeatable_and_rests_in_eval_mode() -> None:
    def made() -> nn.Module:
        layer = normalize(nn.Linear(20, 30), "spectral")
        initialize(layer, "dcgan", torch.Generator().manual_seed(1))
        return layer

    torch.manual_seed(1)
    one = made()
    torch.manual_seed(2)
    other = made()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    one.eval()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    one(torch.randn(2, 20))
    for name, value in one.state_dict().items():
        assert torch.equal(value, before[name]), name
    one.train()
    one(torch.randn(2, 20))
    assert not torch.equal(
        one.state_dict()["parametrizations.weight.0.left"],
        before["parametrizations.weight.0.left"],
    )


def test_a_spectral_norm_keeps_its_precision_under_autocast() -> None:
    layer = normalize(nn.Linear(20, 30), "spectral").train()
    initialize(layer, "xavier", torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert isinstance(layer.weight, torch.Tensor)
        assert layer.weight.dtype == torch.float32
