"""Nearest train images, against plain computations and by what must not matter."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from src.data.patients import Patients
from src.privacy.neighbours import FeatureSpace, PixelSpace, least_distances, nearest_in
from src.privacy.perturbations import PERTURBATIONS


def pictures(count: int, size: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random pictures, all different."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(128, 40, (count, size // 8, size // 8))
    return coarse.repeat(8, 1).repeat(8, 2).clip(0, 255).astype(np.uint8)


def flat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey values as features."""
    return images.reshape(len(images), -1).astype(np.float32)


def test_the_nearest_and_the_ratio_are_those_of_a_plain_search() -> None:
    train, asked = pictures(40), pictures(300, seed=1)
    whose = np.arange(40) // 3
    found = nearest_in(FeatureSpace(flat, train), asked, Patients(whose))
    distances = cdist(flat(asked).astype(float), flat(train).astype(float))
    for row, index, distance, ratio in zip(
        distances, found.index, found.distance, found.ratio, strict=True
    ):
        assert index == row.argmin()
        assert distance == pytest.approx(row.min(), rel=1e-9)
        others = row[whose != whose[index]]
        assert ratio == pytest.approx(row.min() / others.min(), rel=1e-9)


def test_train_images_are_compared_with_other_patients_only() -> None:
    train = pictures(30)
    whose = np.arange(30) // 2
    found = nearest_in(FeatureSpace(flat, train), train, Patients(whose), own=whose)
    assert np.all(whose[found.index] != whose)
    assert np.all(found.distance > 0)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_pixels_see_through_a_shift_of_two_a_mirror_and_another_exposure(size: int) -> None:
    train = pictures(20, size)
    space = PixelSpace(train)
    moved = np.roll(train, (1, -2), axis=(1, 2))
    for images in (train, train[:, :, ::-1], (train * 0.5 + 10).astype(np.uint8), moved):
        found = nearest_in(space, np.ascontiguousarray(images), Patients.singletons(20))
        assert np.array_equal(found.index, np.arange(20))
        if size <= 64 or images is not moved:
            assert found.distance.max() < 0.05  # grey values are whole numbers


def test_distances_in_pixels_are_those_of_standardised_images() -> None:
    train, asked = pictures(6), pictures(5, seed=3)

    def standard(images: NDArray[np.float64]) -> NDArray[np.float64]:
        small = images.reshape(len(images), 30, 2, 30, 2).mean((2, 4)).reshape(len(images), -1)
        small = small - small.mean(axis=1, keepdims=True)
        return np.asarray(small / np.linalg.norm(small, axis=1, keepdims=True))

    references = standard(train[:, 2:62, 2:62].astype(float))
    least = np.full((5, 6), np.inf)
    for mirrored in (asked, asked[:, :, ::-1]):
        for down in range(5):
            for right in range(5):
                part = mirrored[:, down : down + 60, right : right + 60].astype(float)
                least = np.minimum(least, cdist(standard(part), references))
    assert PixelSpace(train).distances(asked) == pytest.approx(least, rel=1e-4)


def test_a_constant_image_is_near_to_nothing() -> None:
    constant = np.full((2, 64, 64), 99, np.uint8)
    assert np.allclose(PixelSpace(pictures(4)).distances(constant), np.sqrt(2))


def test_least_distances_are_the_minimum_over_the_references() -> None:
    train, asked = pictures(9), pictures(200, seed=5)
    expected = cdist(flat(asked).astype(float), flat(train).astype(float)).min(axis=1)
    found = least_distances(FeatureSpace(flat, train), asked)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbation_changes_every_image_and_keeps_its_form(name: str) -> None:
    grain = np.random.default_rng(0).integers(0, 30, (12, 64, 64), dtype=np.uint8)
    images = pictures(12, seed=7) // 2 + 40 + grain
    changed = PERTURBATIONS[name](images, np.random.default_rng(1))
    assert changed.shape == images.shape
    assert changed.dtype == np.uint8
    differences = np.abs(changed.astype(float) - images).mean(axis=(1, 2))
    assert np.all(differences > 0)
    again = PERTURBATIONS[name](images, np.random.default_rng(1))
    assert np.array_equal(changed, again)


def test_perturbations_are_as_large_as_they_say() -> None:
    images = pictures(200, seed=8) // 2 + 40
    rng = np.random.default_rng(2)
    ratio = PERTURBATIONS["brightened"](images, rng).mean((1, 2)) / images.mean((1, 2))
    assert set(np.round(ratio, 2)) == {0.95, 1.05}
    gradient = np.tile(np.arange(64, dtype=np.uint8), (200, 1, 1)) + np.arange(64, dtype=np.uint8)[
        :, None
    ] * np.uint8(2)
    moved = PERTURBATIONS["shifted"](gradient, rng)[:, 32, 32].astype(int) - 96
    reachable = {right + 2 * down for right in range(-2, 3) for down in range(-2, 3)}
    assert set(moved) <= reachable
    assert len(set(moved)) > 8
    assert np.array_equal(PERTURBATIONS["mirrored"](images, rng), images[:, :, ::-1])


@pytest.mark.parametrize(("side", "most"), [(32, 2), (64, 2), (128, 4), (256, 8)])
def test_shifts_are_as_large_a_part_of_large_images(side: int, most: int) -> None:
    across = np.tile(np.arange(side, dtype=np.uint8), (300, side, 1))
    moved = PERTURBATIONS["shifted"](across, np.random.default_rng(2))[:, 16, 16].astype(int) - 16
    assert set(moved) == set(range(-most, most + 1))
