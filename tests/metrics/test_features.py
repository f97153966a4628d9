import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from src.common.errors import UserError
from src.metrics import features
from src.metrics.features import FeatureCache, FeaturesOnce, extract_features


class Sizes:
    """Notes the batches that it is given."""

    name = "sizes"
    dims = 2
    fingerprint = "sizes"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return images.flatten(1)[:, :2].float()


def test_every_batch_is_of_one_size_and_padding_does_not_show(cpu: torch.device) -> None:
    images = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2)
    extractor = Sizes()
    found = extract_features(extractor, images, 3, cpu)
    assert extractor.batches == [3, 3, 3]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, images.reshape(7, 4)[:, :2])


IMAGES = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2)


def test_a_set_that_was_judged_before_does_not_go_through_the_network_again(
    tmp_path: Path, cpu: torch.device
) -> None:
    cache, extractor = FeatureCache(tmp_path / "features"), Sizes()
    first = cache.features(extractor, IMAGES, 3, cpu)
    again = cache.features(extractor, IMAGES.copy(), 3, cpu)
    assert len(extractor.batches) == 3
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, extract_features(Sizes(), IMAGES, 3, cpu))


@pytest.mark.parametrize("place", range(7))
def test_a_set_that_differs_in_one_image_is_another(
    tmp_path: Path, cpu: torch.device, place: int
) -> None:
    cache, extractor = FeatureCache(tmp_path), Sizes()
    cache.features(extractor, IMAGES, 3, cpu)
    other = IMAGES.copy()
    other[place, 0, 0] ^= 1
    found = cache.features(extractor, other, 3, cpu)
    np.testing.assert_array_equal(found, other.reshape(7, 4)[:, :2])


def test_a_set_of_the_same_bytes_in_another_shape_or_of_other_rows_is_another(
    tmp_path: Path, cpu: torch.device
) -> None:
    cache = FeatureCache(tmp_path)
    for images in (IMAGES, IMAGES.reshape(7, 1, 4), IMAGES.reshape(7, 4, 1)):
        cache.features(extractor := Sizes(), images, 3, cpu)
        assert extractor.batches
    rows = np.array([5, 2])
    for _ in range(2):
        found = cache.features(Sizes(), IMAGES, 3, cpu, rows)
        np.testing.assert_array_equal(found, IMAGES.reshape(7, 4)[rows, :2])


def test_a_cache_that_cannot_be_written_costs_a_warning_alone(
    tmp_path: Path, cpu: torch.device, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    found = FeatureCache(tmp_path / "file" / "features").features(Sizes(), IMAGES, 3, cpu)
    np.testing.assert_array_equal(found, IMAGES.reshape(7, 4)[:, :2])
    assert "nothing is kept there: Not a directory" in capsys.readouterr().err


def test_an_image_that_comes_again_is_computed_once(cpu: torch.device) -> None:
    extractor = Sizes()
    once = FeaturesOnce(lambda images: extract_features(extractor, images, 1, cpu))
    first = once(IMAGES[[0, 1, 0]])
    np.testing.assert_array_equal(first, IMAGES.reshape(7, 4)[[0, 1, 0], :2])
    assert len(extractor.batches) == 2
    again = once(IMAGES[[5, 1, 0]])
    np.testing.assert_array_equal(again, IMAGES.reshape(7, 4)[[5, 1, 0], :2])
    assert len(extractor.batches) == 3


def test_whoever_waits_is_told_of_every_batch(tmp_path: Path, cpu: torch.device) -> None:
    cache = FeatureCache(tmp_path)
    for _ in range(2):  # computed, and then read
        told: list[int] = []
        cache.features(Sizes(), IMAGES, 3, cpu, on_batch=told.append)
        assert sum(told) == 7


def test_other_images_batches_or_networks_are_told_apart(tmp_path: Path, cpu: torch.device) -> None:
    cache, extractor = FeatureCache(tmp_path), Sizes()
    cache.features(extractor, IMAGES, 3, cpu)
    for images, batch, rows in (
        (IMAGES + 1, 3, None),
        (IMAGES, 4, None),
        (IMAGES, 3, np.array([1, 0])),
        (IMAGES.reshape(7, 1, 4), 3, None),
    ):
        before = len(extractor.batches)
        cache.features(extractor, images, batch, cpu, rows)
        assert len(extractor.batches) > before
    other = Sizes()
    other.fingerprint = "another"
    cache.features(other, IMAGES, 3, cpu)
    assert other.batches


def test_a_damaged_file_is_told_and_computed_again(
    tmp_path: Path, cpu: torch.device, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, extractor = FeatureCache(tmp_path), Sizes()
    expected = cache.features(extractor, IMAGES, 3, cpu)
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(b"torn")
    np.testing.assert_array_equal(cache.features(extractor, IMAGES, 3, cpu), expected)
    assert "is made again" in capsys.readouterr().err
    assert len(extractor.batches) == 6


def test_what_was_used_longest_ago_goes_first(
    tmp_path: Path, cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "MAX_CACHE_BYTES", 500)  # two files of 184 bytes
    cache = FeatureCache(tmp_path)
    for number in range(2):
        before = set(tmp_path.glob("*.npy"))
        cache.features(Sizes(), IMAGES + number, 3, cpu)
        (made,) = set(tmp_path.glob("*.npy")) - before
        os.utime(made, (number, number))
    cache.features(Sizes(), IMAGES, 3, cpu)  # used again
    cache.features(Sizes(), IMAGES + 2, 3, cpu)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    for number, kept in ((0, True), (2, True), (1, False)):
        extractor = Sizes()
        cache.features(extractor, IMAGES + number, 3, cpu)
        assert (not extractor.batches) == kept


def test_another_users_features_are_used_though_they_cannot_be_touched(
    tmp_path: Path,
    cpu: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache, extractor = FeatureCache(tmp_path), Sizes()
    expected = cache.features(extractor, IMAGES, 3, cpu)

    def refuse(self: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "touch", refuse)
    extractor.batches.clear()
    np.testing.assert_array_equal(cache.features(extractor, IMAGES, 3, cpu), expected)
    assert not extractor.batches
    assert not capsys.readouterr().err


def test_features_that_are_not_finite_are_refused(cpu: torch.device) -> None:
    class Broken(Sizes):
        def __call__(self, images: Tensor) -> Tensor:
            return super().__call__(images) / 0

    with pytest.raises(UserError, match="not finite"):
        extract_features(Broken(), IMAGES, 3, cpu)


@pytest.mark.parametrize(
    "name", ["classifier", "extractors", "features", "inception", "radiomics", "resizing"]
)
def test_changed_code_computes_features_anew(
    tmp_path: Path, cpu: torch.device, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Else a distance would compare features of the old code with features of the new."""
    monkeypatch.setattr(features, "_code", features._code.__wrapped__)  # which else reads once
    cache, extractor = FeatureCache(tmp_path), Sizes()
    cache.features(extractor, IMAGES, 7, cpu)
    cache.features(extractor, IMAGES, 7, cpu)
    assert len(extractor.batches) == 1
    read, changed = Path.read_bytes, f"{name}.py"
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == changed))
    cache.features(extractor, IMAGES, 7, cpu)
    assert len(extractor.batches) == 2


def test_features_keep_all_digits_of_float32_on_a_gpu(
    cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    found = []

    class Asks(Sizes):
        def __call__(self, images: Tensor) -> Tensor:
            found.append(torch.backends.cudnn.allow_tf32)
            return super().__call__(images)

    extract_features(Asks(), IMAGES, 7, cpu)
    assert found == [False]
    assert torch.backends.cudnn.allow_tf32
