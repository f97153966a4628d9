import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.plain import PlainDiscriminator, PlainGenerator, PlainTrainer
from benchmarks.train_throughput import flops_table, settings_of
from benchmarks.workspace import compute_settings
from src.common.devices import choose_compute
from src.common.rng import Stream, torch_stream
from src.config.train import OptimizersSettings, TrainSettings
from src.models.layers import Dropout
from src.models.networks import Discriminator, Generator
from src.training.trainer import Trainer

CPU = torch.device("cpu")


class SameDropout(nn.Module):
    """Drops the same values in the plain discriminator as ours does in its own order."""

    def __init__(self, dropout: Dropout, channels: int) -> None:
        super().__init__()
        self.dropout, self.channels = dropout, channels

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1] // self.channels)
        ours = x.view(-1, self.channels, side, side).flip(2, 3).permute(0, 2, 3, 1).flatten(1)
        dropped = self.dropout(ours).view(-1, side, side, self.channels)
        return dropped.permute(0, 3, 1, 2).flip(2, 3).flatten(1)


@torch.no_grad()
def copy_generator(ours: Generator, plain: PlainGenerator) -> None:
    channels, side, _ = plain.base
    weight = ours.dense.weight.view(side, side, channels, -1).permute(2, 0, 1, 3)
    plain.dense.weight.copy_(weight.flatten(0, 2))
    nn.init.zeros_(plain.dense.bias)  # as ours starts
    for mine, other in zip(ours.upsampling, plain.upsampling, strict=True):
        layer = mine[0] if isinstance(mine, nn.Sequential) else mine
        weight = layer.weight
        if isinstance(other, nn.Sequential):  # enlarged, then convolved
            other, weight = other[1], weight.flip(2, 3).transpose(0, 1)
        other.weight.copy_(weight)
        nn.init.zeros_(other.bias)
    plain.output.load_state_dict(ours.output.state_dict())


@torch.no_grad()
def copy_discriminator(ours: Discriminator, plain: PlainDiscriminator) -> None:
    for mine, other in zip(ours.convolutions, plain.convolutions, strict=True):
        copy_weight(mine, other, lambda weight: weight.flip(2, 3))
    channels = ours.convolutions[-1].out_channels
    side = math.isqrt(ours.dense.in_features // channels)

    def turned(weight: Tensor) -> Tensor:
        shaped = weight.view(*weight.shape[:-1], side, side, channels)
        return shaped.flip(-3, -2).movedim(-1, -3).flatten(-3)

    copy_weight(ours.dense, plain.dense, turned)
    for module in plain.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.zero_()  # as ours start


def copy_weight(mine: Any, other: Any, turn: Callable[[Tensor], Tensor]) -> None:
    """A layer's weight and, where it is spectral, the vectors of the power method."""
    if not hasattr(mine, "parametrizations"):
        other.weight.copy_(turn(mine.weight))
        return
    one, two = mine.parametrizations.weight, other.parametrizations.weight
    two.original.copy_(turn(one.original))
    two[0]._u.copy_(one[0].left)
    inputs = one.original[:1]
    two[0]._v.copy_(turn(one[0].right.view(inputs.shape)).flatten())


def narrow(settings: TrainSettings) -> TrainSettings:
    """The same layers with a few channels each."""
    generator = settings.generator.model_copy(update={"base_channels": 16, "channels": (16, 8, 8)})
    discriminator = settings.discriminator.model_copy(update={"channels": (8, 8, 16, 16)})
    return settings.model_copy(update={"generator": generator, "discriminator": discriminator})


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """The default type of floating-point numbers."""
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("size", "kind", "tolerance"),
    [
        ("thesis", torch.float64, 1e-9),
        ("thesis", torch.float32, 1e-4),
        ("default", torch.float64, 1e-9),
        ("default", torch.float32, 1e-4),
        ("spectral", torch.float64, 1e-9),
        # Batch normalisation divides by small deviations, where rounding errors grow.
        ("spectral", torch.float32, 1e-3),
    ],
    indirect=["kind"],
)
def test_the_losses_of_the_fast_step_are_those_of_the_plain_one(
    size: str, kind: torch.dtype, tolerance: float
) -> None:
    """A small learning rate, since Adam magnifies rounding errors from step to step."""
    settings, image_size = settings_of(size)
    if size == "thesis":
        settings = narrow(settings)
    settings = settings.model_copy(update={"augmentation": ()})  # its chance differs
    adam = settings.optimizer.generator.model_copy(update={"learning_rate": 2e-5})
    optimizer = OptimizersSettings(learning_rate_half_life=0, generator=adam, discriminator=adam)
    settings = settings.model_copy(update={"batch_size": 8, "optimizer": optimizer})
    chosen = compute_settings(device="cpu", precision="fp32")
    fast = Trainer(settings, image_size, choose_compute(chosen))
    dropout = Dropout(settings.discriminator.dropout)
    dropout.rng = torch_stream(CPU, Stream.TRAIN_DROPOUT, settings.seed)
    plain = PlainTrainer(
        settings,
        generator := PlainGenerator(settings.generator, image_size),
        discriminator := PlainDiscriminator(
            settings.discriminator,
            image_size,
            SameDropout(dropout, settings.discriminator.channels[-1]),
        ),
    )
    copy_generator(fast.generator, generator)
    copy_discriminator(fast.discriminator, discriminator)
    plain.rng = torch_stream(CPU, Stream.TRAIN_NOISE, settings.seed)
    # Smooth brightness, rising to the right and bottom.
    random = torch.Generator().manual_seed(0)
    images = torch.rand(20, 8, 1, image_size, image_size, generator=random)
    images = images.cumsum(-1).cumsum(-2)
    images = images / images.amax((-1, -2), keepdim=True) * 2 - 1
    ours = torch.stack([fast.step(batch) for batch in images])
    theirs = torch.stack([plain.step(batch) for batch in images])
    # The hinge loss of the generator passes through zero.
    least = tolerance if settings.loss == "hinge" else 0
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=tolerance, atol=least)
    assert ours.dtype == kind


def test_the_table_of_operations_is_that_of_the_thesis() -> None:
    """Counted by hand: 2 * kernel^2 * channels in * channels out * pixels."""
    table = flops_table(*settings_of("thesis"))
    assert table["generator"]["upsampling 3"] == 2 * 16 * 128 * 128 * 32 * 32
    assert table["discriminator"]["convolution 2"] == 2 * 9 * 128 * 256 * 32 * 32
    forward = sum(table["generator"].values()) + sum(table["discriminator"].values())
    assert forward == pytest.approx(1.82e9, rel=0.01)
    assert sum(table["updates"].values()) == pytest.approx(11.51e9, rel=0.01)
