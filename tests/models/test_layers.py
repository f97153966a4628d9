import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import correlate2d

from src.models.layers import Dropout, NearestConv2d, SameConv2d, SameConvTranspose2d


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
    layer.rng = torch.Generator().manual_seed(5)
    first = layer(x)
    assert abs(float((first == 0).float().mean()) - 0.4) < 0.01
    assert abs(float(first.mean()) - 1) < 0.02
    torch.rand(3)  # the global state is not its source
    layer.rng = torch.Generator().manual_seed(5)
    assert torch.equal(layer(x), first)


def test_the_parts_of_a_batch_drop_what_the_whole_one_does() -> None:
    x = torch.ones(6, 3, 5)  # no multiple of four values a part
    layer = Dropout(0.4).train()
    layer.rng = torch.Generator().manual_seed(5)
    whole = layer(x)
    parts = []
    for index in range(3):
        layer.rng = torch.Generator().manual_seed(5)
        layer.batch_part = (index, 3)
        parts.append(layer(x[:2]))
    assert torch.equal(torch.cat(parts), whole)


def test_dropout_of_nearly_everything_keeps_a_little() -> None:
    layer = Dropout(1 - 1e-9).train()
    layer.rng = torch.Generator().manual_seed(1)
    found = layer(torch.ones(1 << 20))
    assert 0 < int((found > 0).sum()) < 64
    assert found.max() == 65536


def test_dropout_does_nothing_in_eval_mode_and_refuses_to_train_without_a_source() -> None:
    layer = Dropout(0.4)
    x = torch.ones(3)
    assert torch.equal(layer.eval()(x), x)
    with pytest.raises(RuntimeError, match="rng"):
        layer.train()(x)


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
