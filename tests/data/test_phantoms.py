import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.config.data import PhantomSettings
from src.data import phantoms
from src.data.grids import tile
from src.data.patients import patient_of
from src.data.phantoms import draw_anatomy, draw_exposure, draw_lesions, draw_phantoms

Place = tuple[str, str, str]
LOOKS = Path(__file__).with_name("phantoms.png")


def looks() -> NDArray[np.uint8]:
    """24 phantoms, NORMAL above PNEUMONIA, drawn in this process."""
    drawn = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        anatomy = draw_anatomy(rng)
        lesions = draw_lesions(rng) if seed >= 12 else ()
        drawn.append(phantoms.radiograph(anatomy, lesions, draw_exposure(rng), 48, rng))
    return tile(np.stack(drawn), columns=6)


def settings(**changes: Any) -> PhantomSettings:
    values = {
        "train_per_class": 5,
        "test_per_class": 4,
        "images_per_patient": 3,
        "image_size": 48,
        "seed": 7,
    }
    return PhantomSettings(**values | changes)


@pytest.fixture(scope="module")
def many() -> dict[Place, NDArray[np.uint8]]:
    files = draw_phantoms(settings(train_per_class=160, test_per_class=1, image_size=64))
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
    monkeypatch.setattr(phantoms, "available_cores", lambda: 1)
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

    monkeypatch.setattr(phantoms, "_expose", spy)
    rng = np.random.default_rng(1)
    anatomy = draw_anatomy(rng)
    exposure = replace(draw_exposure(rng), scatter=0.0, photons=1e12, blur=0.0)
    depth = phantoms.optical_depth(anatomy, (), exposure, 48, np.random.default_rng(2))
    phantoms.radiograph(anatomy, (), exposure, 48, np.random.default_rng(2))
    assert depth.min() >= 0
    assert depth.max() > 1
    np.testing.assert_allclose(films[0], depth, atol=2e-3)


def test_phantoms_look_as_they_did() -> None:
    """Whoever changes how they are drawn changes every result on them, and should mean to.

    `python -m tests.data.test_phantoms` makes the picture again.
    """
    kept = np.asarray(Image.open(LOOKS)).astype(int)
    np.testing.assert_allclose(looks(), kept, atol=1)  # processors round in their own ways


if __name__ == "__main__":
    Image.fromarray(looks()).save(LOOKS)
