"""Faults of generated images, and that the score that steers the search sees all of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from benchmarks.controls import (
    DOSES,
    STEERS,
    InceptionTaps,
    Pool,
    demo_classifier,
    measure,
    summarize,
    train_images,
    verdicts,
)
from src.config.settings import load_settings
from src.data.dataset import ImageSet
from src.metrics.controls import blend_with_mean, blur, cluster, equalize_exposure, shrink
from src.metrics.inception import load_inception
from tests.conftest import ROOT

# Far enough from black and white that no grey value is cut off.
IMAGES = np.random.default_rng(1).integers(90, 160, (40, 8, 8), dtype=np.uint8)
IMAGES[::2] += 30


def test_features_shrink_about_their_mean() -> None:
    features = np.random.default_rng(2).standard_normal((30, 5)) + 3
    shrunk = shrink(features, 0.6)
    np.testing.assert_allclose(shrunk.mean(axis=0), features.mean(axis=0))
    np.testing.assert_allclose(shrunk.std(axis=0), 0.6 * features.std(axis=0))


def test_images_are_blended_with_the_mean_image() -> None:
    blended = blend_with_mean(IMAGES, 0.5)
    expected = (IMAGES + IMAGES.mean(axis=0)) / 2
    assert np.abs(blended - expected).max() <= 0.5 + 1e-9
    assert np.array_equal(blend_with_mean(IMAGES, 1.0), IMAGES)


@pytest.mark.parametrize(("share", "left"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_exposures_move_towards_the_mean_exposure(share: float, left: float) -> None:
    moved = equalize_exposure(IMAGES, share)
    for measure_of in (np.mean, np.std):
        before, after = (measure_of(part, axis=(1, 2)) for part in (IMAGES, moved))
        assert after.mean() == pytest.approx(before.mean(), abs=0.1)
        np.testing.assert_allclose(after - after.mean(), left * (before - before.mean()), atol=0.3)


def test_each_image_is_blurred_by_itself() -> None:
    blurred = blur(IMAGES, 1.0)
    for image, found in zip(IMAGES, blurred, strict=True):
        expected = ndimage.gaussian_filter(image.astype(float), 1.0)
        assert np.abs(found - expected).max() <= 0.5 + 1e-9


def test_clusters_are_those_that_lie_apart() -> None:
    rng = np.random.default_rng(3)
    points = rng.standard_normal((60, 4)) + 50 * np.repeat([[0], [1], [2]], 20, axis=0)
    labels = cluster(points, 3, rng).reshape(3, 20)
    assert (labels == labels[:, :1]).all()
    assert len(set(labels[:, 0])) == 3


def test_the_dose_that_is_noticed_and_a_mean_that_falls() -> None:
    means = {
        "sees": (0.0, 0.01, 1.0, 2.0),  # the first difference is less than its noise
        "is fooled": (1.0, 0.5, 0.6, 2.0),
    }
    rows = [
        {"images": 9, "draw": draw, "fault": "blurred", "dose": dose, "score": score}
        | {"value": mean + 0.1 * (-1) ** draw * (dose > 0)}
        for draw in range(8)
        for score, values in means.items()
        for dose, mean in zip((0, 0.5, 1, 2), values, strict=True)
    ]
    found = verdicts(summarize(pd.DataFrame(rows)))["blurred"]
    assert found.to_dict() == {"sees": "1", "is fooled": "2, falls"}


def check_controls(pool: Pool, images: int, features: list[str], draws: int = 20) -> pd.DataFrame:
    """The verdicts at a number of images, after the score that steers has passed all controls."""
    found = verdicts(summarize(measure(pool, [images], draws)))
    for name in features:
        steering = found.loc[f"{STEERS}, {name}"]
        assert steering.index.tolist() == list(DOSES)
        for fault, verdict in steering.items():
            assert "falls" not in verdict, (name, fault, verdict)
            assert "none" not in verdict, (name, fault, verdict)
    return found


def some(images: ImageSet, count: int) -> ImageSet:
    """So many of the images, by whole patients."""
    return images.take(images.patients.draw(count, np.random.default_rng(5)))


@pytest.mark.long
def test_the_demos_classifier_and_thumbnails_see_every_fault() -> None:
    params = ROOT / "params.yaml"
    few = "data.phantom.train_per_class=300", "data.phantom.test_per_class=2"
    extract = demo_classifier(load_settings(params, few))
    images = train_images(load_settings(params, [*few, "data.phantom.seed=7"]))["NORMAL"]
    check_controls(Pool.of(images, 170, extract), 60, ["classifier"])


@pytest.mark.long
def test_inception_and_thumbnails_see_every_fault(archive: Path, inception_weights: Path) -> None:
    """And the Fréchet distance of more features than images rewards a spread that has shrunk."""
    changes = ["data.source=kermany", f"data.path={archive}"]
    images = some(train_images(load_settings(ROOT / "params.yaml", changes))["NORMAL"], 400)
    pool = Pool.of(images, 160, InceptionTaps(inception_weights).extract)
    found = check_controls(pool, 60, ["192 features", "768 features"])
    assert "falls" in found.loc["Fréchet distance, 768 features", "features shrunk"]


@pytest.mark.long
def test_the_taps_are_the_features_of_each_width(
    inception_weights: Path, cpu: torch.device
) -> None:
    images = torch.from_numpy(np.random.default_rng(4).integers(0, 256, (2, 32, 32), dtype="u1"))
    widths = InceptionTaps.widths
    parts = InceptionTaps(inception_weights)(images).split(widths, dim=1)
    for width, part in zip(widths, parts, strict=True):
        torch.testing.assert_close(part, load_inception(inception_weights, width, cpu)(images))
