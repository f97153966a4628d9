"""Measures of variety against closed forms, plain references, and sets whose variety is known."""

import dataclasses

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from src.config.registry import VARIETY, load
from src.data.patients import Patients
from src.metrics import variety
from src.metrics.scores import FeatureSample
from src.metrics.variety import (
    PixelSample,
    VarietyScore,
    multi_scale_ssim,
    normalise_exposure,
    reduce_images,
    score_variety,
)

Images = NDArray[np.uint8]
SIDE = 16


def smooth_images(n: int, seed: int, side: int = SIDE, clusters: int = 12) -> Images:
    """Images of random kinds, exposures and contrasts, whose grey levels are not cut off."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(99).standard_normal((clusters, side, side))
    kinds = np.array([scipy.signal.convolve2d(kind, np.ones((5, 5)) / 5, "same") for kind in kinds])
    shapes = kinds[rng.integers(clusters, size=n)] + 0.3 * rng.standard_normal((n, side, side))
    contrast = rng.uniform(10, 18, (n, 1, 1))
    images = 128 + contrast * shapes + 12 * rng.standard_normal((n, 1, 1))
    return np.clip(images.round(), 0, 255).astype(np.uint8)


def sample(images: Images, patients: Patients | None = None) -> FeatureSample:
    """The pixels as features."""
    features = images.reshape(len(images), -1).astype(np.float64)
    return FeatureSample(features, patients or Patients.singletons(len(images)))


def scores(
    real: Images, fake: Images, patients: Patients | None = None, max_images: int = 10_000
) -> dict[str, VarietyScore]:
    features = sample(real, patients), sample(fake)
    return {s.measure: s for s in score_variety(real, fake, features, max_images, 3)}


def values(real: Images, fake: Images) -> dict[str, float]:
    found = {}
    for name, score in scores(real, fake).items():
        assert score.value is not None
        found[name] = score.value
    return found


def pixel_sample(images: Images) -> PixelSample:
    return PixelSample.of(images, np.zeros((len(images), 1)), np.random.default_rng(0))


@pytest.fixture(scope="module")
def real() -> Images:
    return smooth_images(120, 1)


def test_a_set_against_itself_is_as_varied(real: Images) -> None:
    for name, score in scores(real, real).items():
        if VARIETY[name].is_ratio:
            assert score.value == score.real == 1
        assert score.low is not None
        assert score.real is not None
        assert score.high is not None
        assert score.low <= score.real <= score.high
        assert (score.n, score.range_n) == (120, 59)


def test_a_perfect_generator_lies_among_the_real_halves(real: Images) -> None:
    """Another draw of the same distribution, four times; a range is of 95 % at half the size."""
    inside = [
        score.low <= score.value <= score.high
        for seed in range(4)
        for score in scores(real, smooth_images(120, 100 + seed)).values()
        if score.value is not None and score.low is not None and score.high is not None
    ]
    assert len(inside) == 4 * len(VARIETY)
    assert np.mean(inside) > 0.9


def test_half_the_spread_about_the_mean_is_half_of_each_standard_deviation() -> None:
    rng = np.random.default_rng(2)
    offsets = 4 * rng.integers(-12, 13, (80, SIDE, SIDE))
    whole = np.concatenate([128 + offsets, 128 - offsets]).astype(np.uint8)  # mean of exactly 128
    half = (128 + (whole.astype(int) - 128) // 2).astype(np.uint8)
    found = values(whole, half)
    for name in ("image_means", "contrasts", "pixels", "features"):
        assert found[name] == pytest.approx(0.5, abs=1e-12)
    # Each image has lost half of its contrast, which equal exposure gives back.
    assert found["normalised_pixels"] == pytest.approx(1, abs=1e-12)
    assert found["normalised_dimensions"] == pytest.approx(1, abs=1e-9)
    assert found["vendi"] == pytest.approx(1, abs=1e-9)


def test_equal_exposure_has_no_variety_of_exposure_and_keeps_that_of_shapes(real: Images) -> None:
    shapes = normalise_exposure(real.reshape(len(real), -1).astype(float))
    equal = (128 + 20 * shapes).clip(0, 255).round().astype(np.uint8).reshape(real.shape)
    found = values(real, equal)
    assert found["image_means"] < 0.01
    assert found["contrasts"] < 0.02
    for name in ("normalised_pixels", "normalised_dimensions", "vendi"):
        assert found[name] == pytest.approx(1, abs=0.01)


def test_duplicates_lower_the_number_of_different_images() -> None:
    """Nearly independent images: half as many, each twice, have half the score."""
    noise = np.random.default_rng(3).integers(0, 256, (60, 32, 32), dtype=np.uint8)
    found = values(noise, np.repeat(noise[:30], 2, axis=0))
    assert found["vendi"] == pytest.approx(0.5, abs=0.02)
    assert found["normalised_dimensions"] == pytest.approx(0.5, abs=0.03)


def test_half_of_the_clusters_left_out_is_seen_beyond_the_range(real: Images) -> None:
    found = scores(real, smooth_images(120, 5, clusters=6))
    for name in ("normalised_pixels", "normalised_dimensions", "vendi"):
        value, low = found[name].value, found[name].low
        assert value is not None
        assert low is not None
        assert value < low
    similarity = found["ms_ssim"]
    assert similarity.value is not None
    assert similarity.real is not None
    assert similarity.value > similarity.real


def test_one_image_again_and_again_has_no_variety(real: Images) -> None:
    found = values(real, np.repeat(real[:1], 120, axis=0))
    for name in ("image_means", "contrasts", "pixels", "normalised_pixels", "features"):
        assert found[name] == pytest.approx(0, abs=1e-6)
    assert found["normalised_dimensions"] == 0
    assert found["vendi"] == pytest.approx(1 / load(VARIETY["vendi"])(pixel_sample(real)))
    assert found["ms_ssim"] == pytest.approx(1, abs=1e-9)


def test_real_images_without_variety_have_no_ratio() -> None:
    flat = np.full((8, SIDE, SIDE), 77, dtype=np.uint8)
    found = scores(flat, smooth_images(8, 1))
    for name in ("image_means", "contrasts", "pixels", "normalised_pixels", "features"):
        assert dataclasses.astuple(found[name])[1:5] == (None, None, None, None)
    assert load(VARIETY["vendi"])(pixel_sample(flat)) == 1


def test_the_range_is_of_other_patients() -> None:
    """Twelve images of each patient that are nearly alike: halves differ by whole patients."""
    few = smooth_images(12, 6, clusters=40)
    noise = np.random.default_rng(7).integers(-2, 3, (144, SIDE, SIDE))
    images = (np.repeat(few, 12, axis=0) + noise).clip(0, 255).astype(np.uint8)
    known = scores(images, images, Patients(np.arange(144) // 12))
    unknown = scores(images, images)
    for name in VARIETY:
        widths = [
            score.high - score.low
            for score in (known[name], unknown[name])
            if score.high is not None and score.low is not None
        ]
        assert widths[0] > 1.5 * widths[1], name


def test_sets_of_other_sizes_are_compared_at_equal_n(real: Images) -> None:
    found = scores(real, smooth_images(70, 8))["pixels"]
    assert (found.n, found.range_n) == (70, 34)
    found = scores(real, smooth_images(70, 8), max_images=40)["pixels"]
    assert (found.n, found.range_n) == (40, 19)
    both = scores(real[:2], real[2:4])
    assert {(s.n, s.range_n, s.low) for s in both.values()} == {(2, None, None)}


def test_images_of_several_sizes_become_squares_of_the_smallest(real: Images) -> None:
    large = [np.kron(image, np.ones((5, 5), np.uint8)).astype(np.uint8) for image in real]
    assert {image.shape for image in reduce_images(large)} == {(64, 64)}
    mixed = [*large[:60], *real[60:]]
    found = score_variety(mixed, real, (sample(real), sample(real)), 1000, 3)
    assert [s.value for s in found] == [s.value for s in scores(real, real).values()]


def test_measures_of_a_sample_are_those_of_plain_formulas(real: Images) -> None:
    rows = real.reshape(len(real), -1).astype(float)
    normalised = np.array([(row - row.mean()) / row.std() for row in rows])
    covariance = np.cov(normalised.T)
    kernel = np.corrcoef(rows)
    eigenvalues = np.linalg.eigvalsh(kernel / len(rows))
    eigenvalues = eigenvalues[eigenvalues > 1e-15]
    expected = {
        "image_means": np.std([row.mean() for row in rows], ddof=1),
        "contrasts": np.std([row.std() for row in rows], ddof=1),
        "pixels": np.sqrt(np.trace(np.cov(rows.T))),
        "normalised_pixels": np.sqrt(np.trace(covariance)),
        "normalised_dimensions": np.trace(covariance) ** 2 / np.trace(covariance @ covariance),
        "vendi": np.exp(-np.sum(eigenvalues * np.log(eigenvalues))),
    }
    for name, value in expected.items():
        assert load(VARIETY[name])(pixel_sample(real)) == pytest.approx(value, rel=1e-9)


def test_the_features_spread_is_the_trace_of_their_covariance() -> None:
    features = np.random.default_rng(9).standard_normal((30, 7)).astype(np.float32) * 3 + 1000
    held = dataclasses.replace(pixel_sample(smooth_images(30, 1)), features=features)
    expected = np.sqrt(np.trace(np.cov(features.astype(float).T)))
    assert variety.features(held) == pytest.approx(expected, rel=1e-9)


def test_known_numbers_of_directions() -> None:
    """k pairs of opposite images in orthogonal directions: k dimensions, and a Vendi score of k."""
    directions = scipy.linalg.hadamard(16)[1:6].reshape(5, 4, 4)
    images = np.concatenate([128 + 40 * directions, 128 - 40 * directions]).astype(np.uint8)
    held = pixel_sample(images)
    assert variety.normalised_dimensions(held) == pytest.approx(5)
    assert variety.vendi(held) == pytest.approx(5)


def test_both_forms_of_the_vendi_score_agree() -> None:
    """More images than pixels are scored by the smaller matrix."""
    held = pixel_sample(smooth_images(40, 4, side=6))
    assert len(held.images) > held.images[0].size
    eigenvalues = np.linalg.eigvalsh(held.normalised_gram / np.trace(held.normalised_gram))
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    assert variety.vendi(held) == pytest.approx(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


def test_a_subset_is_the_set_of_its_images(real: Images) -> None:
    rows = np.random.default_rng(1).permutation(120)[:50]
    part, alone = pixel_sample(real).take(rows), pixel_sample(real[rows])
    for name in VARIETY:
        if name != "ms_ssim":  # of other pairs
            assert load(VARIETY[name])(part) == pytest.approx(load(VARIETY[name])(alone), rel=1e-9)
    first, second = part.pairs.T
    assert len(first)
    expected = multi_scale_ssim(real[rows][first], real[rows][second])
    assert part.similarities == pytest.approx(expected)


def plain_ms_ssim(x: NDArray[np.float64], y: NDArray[np.float64], scales: int) -> float:
    """Window by window, as the paper defines it."""
    weights = np.array([0.0448, 0.2856, 0.3001])[:scales]
    result = 1.0
    for scale, weight in enumerate(weights / weights.sum()):
        grid = np.arange(11) - 5
        window = np.exp(-(grid[:, None] ** 2 + grid[None, :] ** 2) / (2 * 1.5**2))
        window /= window.sum()
        similarities = []
        for i in range(len(x) - 10):
            for j in range(len(x) - 10):
                a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (
                    (window * (a - mean_a) ** 2).sum(),
                    (window * (b - mean_b) ** 2).sum(),
                )
                cov = (window * (a - mean_a) * (b - mean_b)).sum()
                contrast = (2 * np.sqrt(var_a * var_b) + 58.5225) / (var_a + var_b + 58.5225)
                structure = (cov + 58.5225 / 2) / (np.sqrt(var_a * var_b) + 58.5225 / 2)
                luminance = (2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025)
                last = scale == scales - 1
                similarities.append(contrast * structure * (luminance if last else 1))
        result *= max(float(np.mean(similarities)), 0.0) ** weight
        x, y = (
            np.array(
                [
                    [
                        part[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()
                        for j in range(len(part) // 2)
                    ]
                    for i in range(len(part) // 2)
                ]
            )
            for part in (x, y)
        )
    return result


@pytest.mark.parametrize(("side", "scales"), [(48, 3), (32, 2), (23, 2), (16, 1)])
def test_ms_ssim_against_a_plain_version(side: int, scales: int) -> None:
    images = smooth_images(4, 11, side=side, clusters=2)
    similar = multi_scale_ssim(images[:2], images[2:])
    for index in range(2):
        first, second = images[index].astype(float), images[index + 2].astype(float)
        assert similar[index] == pytest.approx(plain_ms_ssim(first, second, scales), rel=1e-9)


def test_ms_ssim_of_flat_images_is_their_luminance() -> None:
    first, second = (np.full((1, 64, 64), grey, dtype=np.uint8) for grey in (100, 150))
    luminance = (2 * 100 * 150 + 6.5025) / (100**2 + 150**2 + 6.5025)
    expected = luminance ** (0.3001 / (0.0448 + 0.2856 + 0.3001))
    assert multi_scale_ssim(first, second) == pytest.approx(expected)


def test_ms_ssim_has_a_value_for_the_smallest_and_for_opposite_images() -> None:
    small = smooth_images(2, 12, side=8)
    assert multi_scale_ssim(small[:1], small[:1]) == pytest.approx(1)
    assert multi_scale_ssim(small, 255 - small) == pytest.approx(0)
