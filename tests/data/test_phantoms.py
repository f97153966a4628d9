import io
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.data import phantoms
from src.data.patients import patient_of
from src.data.phantoms import draw_anatomy, draw_exposure, draw_lesions, draw_phantoms
from src.settings.data import PhantomSettings

Place = tuple[str, str, str]


def settings(**changes: Any) -> PhantomSettings:
    values = {
        "train_per_class": 5,
        "test_per_class": 4,
        "images_per_patient": 3,
        "size": 48,
        "seed": 7,
    }
    return PhantomSettings(**values | changes)


@pytest.fixture(scope="module")
def many() -> dict[Place, NDArray[np.uint8]]:
    files = draw_phantoms(settings(train_per_class=160, test_per_class=1, size=64))
    return {
        (split, label, name): np.asarray(Image.open(io.BytesIO(content)))
        for split, label, name, content in files
    }


def test_the_same_settings_give_the_same_bytes_and_another_seed_others() -> None:
    first, again = list(draw_phantoms(settings())), list(draw_phantoms(settings()))
    assert first == again
    other = list(draw_phantoms(settings(seed=8)))
    assert not {file[3] for file in first} & {file[3] for file in other}


def test_the_number_of_cores_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    first = list(draw_phantoms(settings()))
    monkeypatch.setattr(phantoms.os, "sched_getaffinity", lambda pid: {0})
    assert list(draw_phantoms(settings())) == first


def test_counts_names_and_patients_are_as_in_the_real_set(
    many: dict[Place, NDArray[np.uint8]],
) -> None:
    for label in ("NORMAL", "PNEUMONIA"):
        names = {s: [n for where, c, n in many if (where, c) == (s, label)] for s in
                 ("train", "test")}  # fmt: skip
        assert (len(set(names["train"])), len(set(names["test"]))) == (160, 1)
        patients = {split: {patient_of(name) for name in names[split]} for split in names}
        assert not patients["train"] & patients["test"]
        # Between one and three images each, so about two on average.
        assert 160 / 3 < len(patients["train"]) < 160


def test_images_are_grey_and_of_the_asked_size(many: dict[Place, NDArray[np.uint8]]) -> None:
    for image in many.values():
        assert image.shape == (64, 64)
        assert image.dtype == np.uint8
        assert image.std() > 20


def _by_class(images: dict[Place, NDArray[np.uint8]]) -> Iterator[NDArray[np.float64]]:
    for label in ("NORMAL", "PNEUMONIA"):
        yield np.stack([image for (_, c, _), image in images.items() if c == label]).astype(float)


def test_mean_brightness_does_not_give_the_class_away(
    many: dict[Place, NDArray[np.uint8]],
) -> None:
    normal, sick = (images.mean(axis=(1, 2)) for images in _by_class(many))
    # Area under the ROC curve of "brighter means pneumonia": 0.5 is chance.
    area = (normal[:, None] < sick).mean() + 0.5 * (normal[:, None] == sick).mean()
    assert 0.4 < area < 0.6


def test_pneumonia_shows_inside_the_lungs(many: dict[Place, NDArray[np.uint8]]) -> None:
    normal, sick = _by_class(many)
    lungs = np.zeros((64, 64), dtype=bool)
    lungs[24:42, 12:22] = lungs[24:42, 42:52] = True

    def contrast(images: NDArray[np.float64]) -> NDArray[np.float64]:
        return images[:, lungs].mean(axis=1) - images[:, ~lungs].mean(axis=1)

    assert contrast(sick).mean() > contrast(normal).mean() + 5


def test_consolidation_adds_depth_only_where_there_is_air() -> None:
    rng = np.random.default_rng(3)
    anatomy, exposure, lesions = draw_anatomy(rng), draw_exposure(rng), draw_lesions(rng)
    depths = [
        phantoms.optical_depth(anatomy, some, exposure, 96, np.random.default_rng(0))
        for some in ((), lesions)
    ]
    x, y = phantoms._coordinates(exposure, 96)
    air = phantoms._lungs(anatomy, exposure, x, y)
    added = depths[1] - depths[0]
    assert added.min() > -1e-4
    assert added[air == 0].max() < 1e-4
    assert added.max() > 0.1


def test_the_chord_of_an_ellipsoid_is_what_a_marched_ray_finds() -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 21, dtype=np.float32), np.linspace(-1, 1, 21))
    a, b, c, angle = 0.7, 0.5, 0.3, 0.4
    chord = phantoms._chord(x, y.astype(np.float32), a, b, c, angle)
    z = np.linspace(-0.5, 0.5, 4001)
    u = math.cos(angle) * x + math.sin(angle) * y
    v = math.cos(angle) * y - math.sin(angle) * x
    inside = (u[..., None] / a) ** 2 + (v[..., None] / b) ** 2 + (z / c) ** 2 < 1
    np.testing.assert_allclose(chord, inside.sum(axis=-1) * (z[1] - z[0]), atol=1e-3)


def test_without_noise_and_scatter_the_film_follows_beer_and_lambert(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its density is the depth that each ray crosses, before the exposure makes grey of it."""
    films: list[NDArray[np.float32]] = []

    def spy(film: NDArray[np.float32], exposure: phantoms.Exposure) -> NDArray[np.uint8]:
        films.append(film)
        return np.zeros(film.shape, dtype=np.uint8)

    monkeypatch.setattr(phantoms, "_exposed", spy)
    rng = np.random.default_rng(1)
    anatomy = draw_anatomy(rng)
    exposure = replace(draw_exposure(rng), scatter=0.0, photons=1e12, blur=0.0)
    depth = phantoms.optical_depth(anatomy, (), exposure, 48, np.random.default_rng(2))
    phantoms.radiograph(anatomy, (), exposure, 48, np.random.default_rng(2))
    assert depth.min() >= 0
    assert depth.max() > 1
    np.testing.assert_allclose(films[0], depth, atol=2e-3)


LOOKS = {  # means and standard deviations over 160 images, of squares of 16 pixels a side
    "NORMAL": (
        [[76.1, 162.7, 161.9, 76.1], [71.7, 138.1, 139.0, 71.4],
         [66.1, 147.3, 165.3, 66.0], [91.6, 202.6, 197.1, 86.5]],
        [[44.2, 49.1, 48.7, 43.6], [42.7, 57.0, 57.1, 42.4],
         [44.2, 64.0, 59.5, 44.0], [64.3, 34.1, 38.8, 60.5]],
    ),
    "PNEUMONIA": (
        [[74.0, 160.3, 160.8, 73.8], [73.0, 143.6, 148.8, 74.8],
         [70.4, 157.1, 175.4, 72.3], [92.0, 202.5, 195.2, 85.2]],
        [[43.0, 48.8, 48.7, 43.1], [44.2, 55.2, 53.9, 44.9],
         [47.1, 59.7, 52.1, 47.7], [63.6, 32.1, 38.3, 59.6]],
    ),
}  # fmt: skip


def test_phantoms_look_as_they_did(many: dict[Place, NDArray[np.uint8]]) -> None:
    """Whoever changes how they are drawn changes every result on them, and should mean to."""
    for label, (means, spreads) in LOOKS.items():
        images = [v for (split, c, _), v in many.items() if (split, c) == ("train", label)]
        squares = np.stack(images).reshape(-1, 4, 16, 4, 16).astype(float)
        np.testing.assert_allclose(squares.mean((0, 2, 4)), means, atol=0.15)
        np.testing.assert_allclose(squares.std((0, 2, 4)), spreads, atol=0.15)
