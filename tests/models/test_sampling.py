import numpy as np
import torch

from src.config.settings import Settings
from src.models.initialization import initialize
from src.models.networks import Generator
from src.models.sampling import BATCH, generate, to_bytes, to_unit_range


def test_bytes_and_unit_range_are_inverse() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    unit = to_unit_range(every)
    assert unit.shape == (1, 1, 16, 16)
    assert (float(unit.min()), float(unit.max())) == (-1.0, 1.0)
    assert torch.equal(to_bytes(unit), every)


def test_values_are_rounded_and_those_beyond_the_range_cut() -> None:
    values = torch.tensor([-3.0, -1.004, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 1.004, 3.0])
    assert to_bytes(values.reshape(6, 1, 1, 1)).flatten().tolist() == [0, 0, 0, 1, 255, 255]


def test_an_image_does_not_depend_on_how_many_are_drawn(
    tiny_settings: Settings,
) -> None:
    random = torch.Generator().manual_seed(1)
    generator = initialize(Generator(tiny_settings.train.normal.generator, 16), "xavier", random)
    noise = torch.randn(2 * BATCH + 3, 8, generator=torch.Generator().manual_seed(1))
    whole = generate(generator, noise)
    assert whole.shape == (2 * BATCH + 3, 16, 16)
    np.testing.assert_array_equal(whole[:7], generate(generator, noise[:7]))
    assert generator.training  # as it was
