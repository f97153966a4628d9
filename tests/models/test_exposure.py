import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from src.models.exposure import Exposure, measure_exposure, standardise


def images_of(means: NDArray[np.float64], contrasts: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Images of random pixels with about these means and contrasts, in grey levels."""
    pixels = np.random.default_rng(0).standard_normal((len(means), 12, 12))
    grey = means[:, None, None] + contrasts[:, None, None] * pixels
    return np.clip(np.round(grey), 0, 255).astype(np.uint8)


def drawn_from(images: NDArray[np.uint8], count: int = 4000) -> tuple[NDArray[np.float64], ...]:
    exposure = Exposure()
    exposure.fit(images)
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(1))
    return tuple(part.flatten().double().numpy() for part in exposure(noise))


def test_mean_and_contrast_of_an_image() -> None:
    image = np.array([[0, 0], [255, 255]], dtype=np.uint8)
    mean, contrast = measure_exposure(image[None])
    assert mean == pytest.approx(0)
    assert contrast == pytest.approx(1)


def test_drawn_exposures_are_distributed_as_those_of_the_images() -> None:
    rng = np.random.default_rng(3)
    means = np.where(rng.random(2000) < 0.3, rng.normal(70, 4, 2000), rng.normal(140, 12, 2000))
    contrasts = 20 + 0.1 * means + rng.exponential(5, 2000)
    images = images_of(means, contrasts)
    real, drawn = measure_exposure(images), drawn_from(images)
    for mine, theirs in zip(drawn, real, strict=True):
        assert np.std(mine) == pytest.approx(np.std(theirs), rel=0.05)
        shares = [0.05, 0.25, 0.5, 0.75, 0.95]
        span = np.ptp(theirs)
        np.testing.assert_allclose(
            np.quantile(mine, shares), np.quantile(theirs, shares), atol=0.03 * span
        )
        assert theirs.min() - 1e-6 <= mine.min()
        assert mine.max() <= theirs.max() + 1e-6
    assert spearmanr(*drawn)[0] == pytest.approx(spearmanr(*real)[0], abs=0.08)


def test_independent_exposures_are_drawn_independently() -> None:
    rng = np.random.default_rng(4)
    images = images_of(rng.normal(120, 15, 1000), rng.normal(35, 5, 1000))
    assert abs(spearmanr(*drawn_from(images))[0]) < 0.08


def test_images_of_one_exposure_give_no_other() -> None:
    images = np.repeat(images_of(np.array([100.0]), np.array([20.0])), 5, axis=0)
    means, contrasts = drawn_from(images)
    real = measure_exposure(images[:1])
    np.testing.assert_allclose(means, real[0][0], rtol=1e-5)
    np.testing.assert_allclose(contrasts, real[1][0], rtol=1e-5)


def test_a_standardised_image_has_mean_0_and_contrast_1() -> None:
    images = torch.rand(3, 1, 8, 8, dtype=torch.bfloat16) * 5 + 2
    made = standardise(images)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.mean((1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(made.std((1, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert standardise(torch.ones(1, 1, 4, 4)).abs().max() == 0  # a constant one
