import numpy as np
import pytest
import torch

from src.config.registry import INPUT_SCALINGS, RESIZES, load
from src.metrics.resizing import SIZE

RAMP = torch.arange(8.0).repeat(8, 1)[None, None] * 30  # rises by 30 from each column to the next


@pytest.mark.parametrize("name", RESIZES)
def test_the_extremes_of_grey_become_those_of_the_network(name: str) -> None:
    black, white = (load(RESIZES[name])(torch.full((1, 1, 5, 9), value)) for value in (0.0, 255.0))
    assert black.shape == (1, 1, SIZE, SIZE)
    torch.testing.assert_close(black, torch.full_like(black, -1))
    top = 1.0 if name == "pytorch-fid" else 127 / 128
    torch.testing.assert_close(white, torch.full_like(white, top))


def test_torch_fidelity_starts_at_the_corner_and_repeats_the_last_pixel() -> None:
    row = load(RESIZES["torch-fidelity"])(RAMP)[0, 0, 100] * 128 + 128
    place = torch.arange(SIZE) * 8 / SIZE
    torch.testing.assert_close(row, (place * 30).clamp(max=210), atol=1e-3, rtol=0)


def test_pytorch_fid_starts_at_the_centre_of_the_first_pixel() -> None:
    row = (load(RESIZES["pytorch-fid"])(RAMP)[0, 0, 100] + 1) * 127.5
    place = (torch.arange(SIZE) + 0.5) * 8 / SIZE - 0.5
    torch.testing.assert_close(row, (place * 30).clamp(0, 210), atol=1e-3, rtol=0)


def test_clean_fid_is_antialiased_where_the_image_shrinks() -> None:
    """Lines finer than the new pixels become an even grey; without antialiasing they do not."""
    lines = (torch.arange(1196) % 2).float().repeat(1196, 1)[None, None] * 255
    inner = load(RESIZES["clean-fid"])(lines.clone())[0, 0, 9:-9, 9:-9]
    assert float(inner.std()) < 0.02
    assert float(load(RESIZES["torch-fidelity"])(lines.clone()).std()) == pytest.approx(0, abs=1e-3)
    assert float(load(RESIZES["torch-fidelity"])(lines.clone()).mean()) == pytest.approx(
        -1, abs=1e-3
    )


def test_clean_fid_keeps_a_slope_where_it_grows() -> None:
    """Every cubic filter that sums to one and is even does, away from the edges."""
    row = load(RESIZES["clean-fid"])(RAMP.clone())[0, 0, 100] * 128 + 128
    place = (torch.arange(SIZE) + 0.5) * 8 / SIZE - 0.5
    torch.testing.assert_close(row[80:-80], place[80:-80] * 30, atol=1e-2, rtol=0)


def test_clean_fid_interpolates_by_bicubic_and_cuts_what_overshoots() -> None:
    """An edge between black and white: a cubic filter overshoots it, Pillow's by a = -0.5."""
    edge = (torch.arange(8.0) >= 4).repeat(8, 1)[None, None] * 255.0
    row = load(RESIZES["clean-fid"])(edge.clone())[0, 0, 100] * 128 + 128
    distance = np.abs((np.arange(SIZE) + 0.5)[:, None] * 8 / SIZE - (np.arange(8) + 0.5))
    near, far = distance <= 1, (distance > 1) & (distance < 2)
    weights = np.where(near, 1.5 * distance**3 - 2.5 * distance**2 + 1, 0)
    weights += np.where(far, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2, 0)
    expected = weights @ edge[0, 0, 0].numpy() / weights.sum(axis=1)
    assert expected.min() < -10
    assert expected.max() > 265
    np.testing.assert_allclose(row.numpy(), np.clip(expected, 0, 255), atol=1e-2)


def test_scaled_twice_all_images_lie_near_minus_one() -> None:
    images = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(load(INPUT_SCALINGS["standard"])(images), images)
    torch.testing.assert_close(load(INPUT_SCALINGS["twice"])(images), images / 127.5 - 1)
