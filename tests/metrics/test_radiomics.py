import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from src.common.errors import UserError
from src.config.settings import parse_settings
from src.data.classes import CLASSES
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.evaluate import main, parse
from src.metrics import radiomics
from src.metrics.extractors import choose_extractor
from src.metrics.features import extract_features
from src.metrics.radiomics import RadiomicsExtractor, StandardizedExtractor

DIMS = 398
RADIOMICS = ["--features", "radiomics", "--draws", "4"]
rng = np.random.default_rng(0)
# Powers of ten as far apart as those of radiomic features; the last feature is constant.
SCALES = 10.0 ** np.arange(-5, 7)


def described(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Twelve features of images, float32 (n, 398) with zeros behind them."""
    features = np.zeros((len(images), DIMS), dtype=np.float32)
    features[:, :12] = SCALES * (3 + images.reshape(len(images), -1)[:, :12])
    features[:, 12] = 7
    return features


class Raw:
    """Stands in for frd-score, and notes how many images it is given."""

    name = "radiomics"
    fingerprint = "stand-in"
    images = 0

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def __call__(self, images: Tensor) -> Tensor:
        Raw.images += len(images)
        return torch.from_numpy(described(images.cpu().numpy()))


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Raw]:
    monkeypatch.setattr(radiomics, "RadiomicsExtractor", Raw)
    monkeypatch.setattr(Raw, "images", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Raw


def saved(path: Path, images: NDArray[np.uint8]) -> str:
    np.save(path, images)
    return str(path)


def frechet_by_sqrtm(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    gap = first.mean(axis=0) - second.mean(axis=0)
    return float(gap @ gap + np.trace(covariances[0]) + np.trace(covariances[1] - 2 * root))


def test_features_are_standardised_by_the_reference_alone(cpu: torch.device) -> None:
    images = rng.integers(0, 256, (9, 4, 4), dtype=np.uint8)
    reference = described(rng.integers(0, 256, (20, 4, 4), dtype=np.uint8))
    reference[:, 0] = 3  # which varies among the images
    extractor = StandardizedExtractor(Raw(DIMS), reference)
    found = extract_features(extractor, images, 4, cpu)
    mean, deviation = reference[:, 1:12].mean(axis=0), reference[:, 1:12].std(axis=0)
    np.testing.assert_allclose(
        found[:, 1:12], (described(images)[:, 1:12] - mean) / deviation, rtol=1e-4, atol=1e-4
    )
    assert not found[:, [0, *range(12, DIMS)]].any()  # constant in the reference


def test_extractors_of_different_references_have_different_fingerprints() -> None:
    """Else the cache would give one's features for the other's."""
    references = [described(rng.integers(0, 256, (20, 4, 4), dtype=np.uint8)) for _ in range(2)]
    first, second = (StandardizedExtractor(Raw(DIMS), part).fingerprint for part in references)
    assert first != second
    assert StandardizedExtractor(Raw(DIMS), references[0]).fingerprint == first


def test_evaluate_standardises_by_real_and_keeps_its_features(
    tmp_path: Path, raw: type[Raw], capsys: pytest.CaptureFixture[str]
) -> None:
    real = rng.integers(0, 200, (30, 4, 4), dtype=np.uint8)
    generated = rng.integers(40, 256, (24, 4, 4), dtype=np.uint8)
    files = saved(tmp_path / "real.npy", real), saved(tmp_path / "generated.npy", generated)
    assert main([*files, *RADIOMICS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    z = [
        (described(part)[:, :12] - described(real)[:, :12].mean(axis=0, dtype=np.float64))
        / described(real)[:, :12].std(axis=0, dtype=np.float64)
        for part in (real, generated)
    ]
    assert found["frechet"]["value"] == pytest.approx(frechet_by_sqrtm(*z), rel=1e-4)
    assert found["features"] == "398 features of radiomics"
    # Another generated set: neither real images nor their standardisation are computed again.
    other = saved(tmp_path / "other.npy", generated[::-1].copy() ^ 1)
    Raw.images = 0
    assert main([files[0], other, *RADIOMICS]) == 0
    assert Raw.images == 32  # 24, in a batch of a power of 2


def test_statistics_and_images_of_several_sizes_are_refused(
    tmp_path: Path, raw: type[Raw], capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(tmp_path / "real.npy", rng.integers(0, 256, (8, 4, 4), dtype=np.uint8))
    with pytest.raises(SystemExit):
        parse([file, file, *RADIOMICS, "--save-real", str(tmp_path / "real.npz")])
    assert "radiomics has no statistics alone" in capsys.readouterr().err
    assert main([file, file, "--features", "pixels", "--dims", "4", "--save-real",
                 str(tmp_path / "real.npz")]) == 0  # fmt: skip
    assert main([file, str(tmp_path / "real.npz"), *RADIOMICS]) == 1
    assert "standardised by the real images of each comparison" in capsys.readouterr().err
    (tmp_path / "sizes").mkdir()
    for size in (16, 18):
        grey = rng.integers(0, 256, (size, size), dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / "sizes" / f"{size}.png")
    assert main([str(tmp_path / "sizes"), file, *RADIOMICS]) == 1
    assert "--size makes them alike" in capsys.readouterr().err


def test_the_pipeline_standardises_by_evenly_spaced_train_images_of_both_classes(
    raw: type[Raw], params: dict[str, Any], cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radiomics, "MAX_REFERENCE_IMAGES", 10)
    sets = {
        label: ImageSet.of_class(
            rng.integers(0, 256, (count, 4, 4), dtype=np.uint8), label, Patients.singletons(count)
        )
        for label, count in zip(CLASSES, (25, 6), strict=True)
    }
    params["fid"].update(extractor="radiomics", dims=DIMS)
    extractor, info = choose_extractor(parse_settings(params).fid, Path(), lambda: sets, cpu)
    assert info == {"reference_images": 16}
    used = [sets[CLASSES[0]].images[[0, 2, 5, 7, 10, 12, 15, 17, 20, 22]], sets[CLASSES[1]].images]
    expected = StandardizedExtractor(Raw(DIMS), described(np.concatenate(used)))
    assert extractor.fingerprint == expected.fingerprint


def test_a_missing_package_is_one_line_that_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(radiomics, "version", missing)
    file = saved(tmp_path / "real.npy", rng.integers(0, 256, (8, 4, 4), dtype=np.uint8))
    assert main([file, file, *RADIOMICS]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert lines == [
        "error: the radiomics extractor needs frd-score, which is not installed; "
        "pip install -c requirements-lock.txt -r requirements-radiomics.txt"
    ]


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> RadiomicsExtractor:
    """The extractor with threads for processes, in which no package is needed."""
    monkeypatch.setattr(radiomics, "version", lambda name: "1")
    extractor = RadiomicsExtractor(DIMS, processes=3)
    extractor.__dict__["_pool"] = ThreadPoolExecutor(3)
    return extractor


def test_features_come_in_the_order_of_the_images_and_flat_images_have_none(
    threads: RadiomicsExtractor, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    monkeypatch.setattr(radiomics, "_describe", lambda image: described(image[None])[0])
    images = rng.integers(0, 256, (40, 4, 4), dtype=np.uint8)
    np.testing.assert_array_equal(extract_features(threads, images, 16, cpu), described(images))
    images[21] = 77
    with pytest.raises(UserError, match="not finite, first of image 21"):
        extract_features(threads, images, 16, cpu)


def test_another_number_of_features_is_refused(
    threads: RadiomicsExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radiomics, "_describe", lambda image: np.zeros(464, dtype=np.float32))
    images = torch.from_numpy(rng.integers(0, 256, (2, 4, 4), dtype=np.uint8))
    with pytest.raises(UserError, match="dims: frd-score gives 464 features, not 398"):
        threads(images)


def test_an_image_on_which_the_package_fails_is_an_error_of_one_line(
    threads: RadiomicsExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path) -> list[float]:
        raise ValueError("two\nlines")

    monkeypatch.setattr(radiomics, "_describer", lambda: fail)
    images = torch.from_numpy(rng.integers(0, 256, (2, 4, 4), dtype=np.uint8))
    with pytest.raises(UserError, match="frd-score failed on an image: two lines"):
        threads(images)


FRD = """
import sys
from frd_score import compute_frd
if __name__ == "__main__":
    print(compute_frd(sys.argv[1:], num_workers=1))
"""


@pytest.mark.long
def test_the_distance_is_frd_scores_own_whatever_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("frd_score", reason="requirements-radiomics.txt is not installed")
    # Smooth images with noise: waves of random phases, the second set of another contrast.
    y, x = np.mgrid[:64, :64] / 64
    sets = {}
    for name, contrast in (("real", 60), ("generated", 45)):
        waves = [np.sin(5 * x + a) * np.cos(4 * y + b) for a, b in rng.uniform(0, 6, (12, 2))]
        noisy = 120 + contrast * np.stack(waves) + rng.normal(0, 8, (12, 64, 64))
        sets[name] = noisy.clip(0, 255).astype(np.uint8)
        (tmp_path / name).mkdir()
        for number, image in enumerate(sets[name]):
            Image.fromarray(image).save(tmp_path / name / f"{number:02d}.png")
    folders = [str(tmp_path / name) for name in sets]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main([*folders, *RADIOMICS, "--json"]) == 0
    distance = json.loads(capsys.readouterr().out)["frechet"]["value"]
    done = subprocess.run(
        [sys.executable, "-c", FRD, *folders], capture_output=True, text=True, check=True
    )
    assert np.log(distance) == pytest.approx(float(done.stdout.split()[-1]), abs=1e-4)

    images = torch.from_numpy(sets["real"])
    one, two = (RadiomicsExtractor(DIMS, processes)(images).numpy() for processes in (1, 2))
    assert one.tobytes() == two.tobytes()
    assert np.isfinite(one).all()
