import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import correlate2d
from torch import nn

from src.models.layers import (
    Dropout,
    NearestConv2d,
    SameConv2d,
    SameConvTranspose2d,
    initialize,
    normalize,
)


def keras_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's rule for "same": as little as needed, the odd pixel at the end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def as_keras(layer: SameConv2d, x: torch.Tensor) -> torch.Tensor:
    """Keras's layer with the turned kernel: all is turned by 180 degrees."""
    return layer(x.flip(2, 3)).flip(2, 3)


@pytest.mark.parametrize("size", [7, 8, 16])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_convolution_pads_as_keras(size: int, kernel: int, stride: int) -> None:
    layer = SameConv2d(1, 1, kernel, stride).double()
    image = torch.randn(1, 1, size, size, dtype=torch.float64)
    before, after = keras_padding(size, kernel, stride)
    padded = np.pad(image[0, 0].numpy(), ((before, after), (before, after)))
    weight = layer.weight[0, 0].flip(0, 1).detach().numpy()
    assert layer.bias is not None
    expected = correlate2d(padded, weight, mode="valid")[::stride, ::stride] + float(
        layer.bias.detach()
    )
    found = as_keras(layer, image)[0, 0].detach().numpy()
    assert found.shape == (-(-size // stride),) * 2
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 2), (2, 2), (5, 2), (3, 1), (4, 4)])
def test_transposed_convolution_is_the_transpose_of_the_convolution(
    kernel: int, stride: int
) -> None:
    """As in Keras, whose Conv2DTranspose is the gradient of a "same" convolution."""
    down = SameConv2d(3, 2, kernel, stride).double()
    up = SameConvTranspose2d(2, 3, kernel, stride).double()
    assert down.bias is not None
    assert up.bias is not None
    with torch.no_grad():
        up.weight.copy_(down.weight.flip(2, 3))
        up.bias.zero_()
        down.bias.zero_()
    large = torch.randn(1, 3, 4 * stride, 4 * stride, dtype=torch.float64)
    small = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    assert up(small).shape == large.shape
    left, right = (as_keras(down, large) * small).sum(), (large * up(small)).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_dropout_keeps_the_mean_and_comes_from_its_generator() -> None:
    layer = Dropout(0.4).train()
    x = torch.ones(200, 200)
    layer.random = torch.Generator().manual_seed(5)
    first = layer(x)
    assert abs(float((first == 0).float().mean()) - 0.4) < 0.01
    assert abs(float(first.mean()) - 1) < 0.02
    torch.rand(3)  # the global state is not its source
    layer.random = torch.Generator().manual_seed(5)
    assert torch.equal(layer(x), first)


def test_the_parts_of_a_batch_drop_what_the_whole_one_does() -> None:
    x = torch.ones(6, 3, 5)  # no multiple of four values a part
    layer = Dropout(0.4).train()
    layer.random = torch.Generator().manual_seed(5)
    whole = layer(x)
    parts = []
    for index in range(3):
        layer.random = torch.Generator().manual_seed(5)
        layer.part = (index, 3)
        parts.append(layer(x[:2]))
    assert torch.equal(torch.cat(parts), whole)


def test_dropout_of_nearly_everything_keeps_a_little() -> None:
    layer = Dropout(1 - 1e-9).train()
    layer.random = torch.Generator().manual_seed(1)
    found = layer(torch.ones(1 << 20))
    assert 0 < int((found > 0).sum()) < 64
    assert found.max() == 65536


def test_dropout_does_nothing_in_eval_mode_and_refuses_to_train_without_a_source() -> None:
    layer = Dropout(0.4)
    x = torch.ones(3)
    assert torch.equal(layer.eval()(x), x)
    with pytest.raises(RuntimeError, match="random"):
        layer.train()(x)


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


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (1, 2), (5, 2), (3, 4), (3, 1), (2, 2)])
def test_the_nearest_layer_enlarges_and_then_convolves(kernel: int, stride: int) -> None:
    layer = NearestConv2d(3, 2, kernel, stride).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    large = F.interpolate(x, scale_factor=stride, mode="nearest")
    # "same" padding; the odd pixel of an even kernel is at the left and top.
    before, after = kernel // 2, (kernel - 1) // 2
    weight = layer.weight.flip(2, 3).transpose(0, 1)
    expected = F.conv2d(F.pad(large, (before, after, before, after)), weight, layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(expected)
    ours = torch.autograd.grad(layer(x), (x, layer.weight), upstream)
    theirs = torch.autograd.grad(expected, (x, layer.weight), upstream)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


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
