import numpy as np
import pytest
import torch
from torch import Tensor

from src.config.registry import AUGMENTATIONS
from src.training.augmentation import augment, count_draws


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def uniform(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows)


def test_brightness_adds_half_of_the_range_at_most(images: Tensor) -> None:
    numbers = uniform((0.0,), (0.5,), (0.75,), (0.999,))
    found = augment(images, ("brightness",), numbers) - images
    for image, grey in zip(found, (-0.5, 0.0, 0.25, 0.499), strict=True):
        torch.testing.assert_close(image, torch.full_like(image, grey), rtol=0, atol=1e-6)


def test_contrast_scales_about_the_mean(images: Tensor) -> None:
    found = augment(images, ("contrast",), uniform((0.0,), (0.5,), (0.999,), (0.25,)))
    for image, before, factor in zip(found, images, (0.5, 1.0, 1.499, 0.75), strict=True):
        assert float(image.mean()) == pytest.approx(float(before.mean()), abs=1e-6)
        assert float(image.std() / before.std()) == pytest.approx(factor, abs=1e-4)


def test_translation_moves_by_whole_pixels_and_fills_with_zeros(images: Tensor) -> None:
    """At 16 pixels by -2 to 2, with a probability of one fifth each."""
    numbers = uniform((0.99, 0.5), (0.0, 0.5), (0.5, 0.7), (0.3, 0.3))
    found = augment(images, ("translation",), numbers).numpy()
    for image, before, (down, right) in zip(
        found, images.numpy(), ((2, 0), (-2, 0), (0, 1), (-1, -1)), strict=True
    ):
        padded = np.pad(before[0], 2)
        rows, columns = slice(2 - down, 18 - down), slice(2 - right, 18 - right)
        np.testing.assert_array_equal(image[0], padded[rows, columns])


def test_every_shift_is_as_likely() -> None:
    numbers = torch.rand(5000, 2, generator=torch.Generator().manual_seed(1))
    one = torch.zeros(1, 1, 16, 16)
    one[..., 8, 8] = 1
    moved = augment(one.expand(5000, -1, -1, -1), ("translation",), numbers)
    counts = moved.sum((0, 1, 2))[6:11]
    assert float(counts.sum()) == 5000
    assert float((counts - 1000).abs().max()) < 120  # four standard deviations


def test_cutout_takes_a_square_that_may_reach_over_the_edge(images: Tensor) -> None:
    images = images.abs() + 0.1
    found = augment(images, ("cutout",), uniform((0.0, 0.0), (0.5, 0.5), (0.999, 0.5), (0.5, 0.0)))
    holes = [(image == 0).sum().item() for image in found]
    assert holes == [4 * 4, 8 * 8, 4 * 8, 8 * 4]
    assert torch.equal(found[1, 0, 4:12, 4:12], torch.zeros(8, 8))
    assert torch.equal(found[1, 0, :4], images[1, 0, :4])


def test_names_use_their_own_numbers_in_order(images: Tensor) -> None:
    names = ("brightness", "translation", "contrast")
    assert count_draws(names) == 4
    numbers = torch.rand(4, 4, generator=torch.Generator().manual_seed(1))
    expected = augment(images, ("brightness",), numbers[:, :1])
    expected = augment(expected, ("translation",), numbers[:, 1:3])
    expected = augment(expected, ("contrast",), numbers[:, 3:])
    torch.testing.assert_close(augment(images, names, numbers), expected)
    assert augment(images, (), numbers[:, :0]) is images


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_a_change_of_values_grows_with_the_strength(images: Tensor, name: str) -> None:
    numbers = uniform((0.1,), (0.4,), (0.8,), (0.9,))
    whole, quarter = (augment(images, (name,), numbers, strength) for strength in (1.0, 0.25))
    torch.testing.assert_close(quarter - images, (whole - images) / 4)


@pytest.mark.parametrize(("strength", "shift"), [(1.0, 8), (0.25, 2), (0.2, 2), (0.01, 1)])
def test_shifts_grow_with_the_strength_and_are_never_none(strength: float, shift: int) -> None:
    one = torch.zeros(2, 1, 64, 64)
    one[..., 32, 32] = 1
    moved = augment(one, ("translation",), uniform((0.0, 0.0), (0.999, 0.999)), strength)
    places = [(image[0] == 1).nonzero().tolist() for image in moved]
    assert places == [[[32 - shift, 32 - shift]], [[32 + shift, 32 + shift]]]


def test_a_cutout_grows_with_the_strength(images: Tensor) -> None:
    found = augment(images.abs() + 0.1, ("cutout",), torch.full((4, 2), 0.5), 0.25)
    assert [(image == 0).sum().item() for image in found] == [2 * 2] * 4


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_has_a_gradient(images: Tensor, name: str) -> None:
    small = images[:2, :, :8, :8].double().requires_grad_(True)
    numbers = torch.rand(2, count_draws((name,)), generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda x: augment(x, (name,), numbers.double()), small)
