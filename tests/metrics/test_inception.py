import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.plain_evaluation import plain_inception
from src.common.errors import UserError
from src.config.registry import RESIZES, load
from src.config.settings import parse_settings
from src.data.preprocess import decode_image
from src.metrics.features import extract_features
from src.metrics.frechet import FeatureSet, frechet_distance
from src.metrics.inception import InceptionExtractor, _average, load_inception
from tests.common.test_weights import SAVED
from tests.conftest import Hostile, collected


def test_the_average_pool_leaves_padding_out_of_the_count() -> None:
    ones = torch.ones(1, 1, 5, 5)
    assert torch.equal(_average(ones), ones)


def test_the_full_network_has_the_usual_ports_names_and_size() -> None:
    network = InceptionExtractor(2048)
    state = network.state_dict()
    # 21,785,568 weights: Inception-v3 up to its last pooling, without the auxiliary head.
    assert sum(p.numel() for p in network.parameters()) == 21_785_568
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch1x1.bn.bias": (64,),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_5d.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6c.branch7x7dbl_5.conv.weight": (192, 160, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    }.items():
        assert tuple(state[name].shape) == shape


@pytest.mark.parametrize("dims", [64, 192, 768, 2048])
def test_each_width_is_what_it_says(dims: int) -> None:
    network = InceptionExtractor(dims).eval()
    with torch.no_grad():
        features = network(torch.zeros(1, 16, 16, dtype=torch.uint8))
    assert features.shape == (1, dims)


def test_only_the_last_block_pools_by_maximum() -> None:
    network = InceptionExtractor(2048)
    assert [network.Mixed_7b._pool_by_maximum, network.Mixed_7c._pool_by_maximum] == [False, True]


@pytest.mark.parametrize("size", [8, 598])
def test_the_resize_is_bilinear_without_antialiasing(size: int) -> None:
    """As the FID reference does: against an explicit gather at half-pixel centres."""
    image = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(size)) * 255
    found = (load(RESIZES["pytorch-fid"])(image.clone())[0, 0] + 1) * 127.5
    place = ((torch.arange(299) + 0.5) * size / 299 - 0.5).clamp(0, size - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=size - 1)
    share = place - low
    rows = image[0, 0][low] * (1 - share)[:, None] + image[0, 0][high] * share[:, None]
    expected = rows[:, low] * (1 - share) + rows[:, high] * share
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-5)


def test_weights_that_are_not_there_are_named(tmp_path: Path, cpu: torch.device) -> None:
    with pytest.raises(UserError, match="there is no such file of weights"):
        load_inception(tmp_path / "absent.pth", 64, cpu)


def test_what_weights_lack_is_counted(cpu: torch.device, inception_weights: Path) -> None:
    with pytest.raises(UserError, match=r"lacks \d+ tensors that 2048 features need"):
        load_inception(inception_weights, 2048, cpu)


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps(pytest.skip)])
def test_files_that_are_no_weights_are_refused(
    tmp_path: Path, cpu: torch.device, content: bytes
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no file of weights"):
        load_inception(path, 64, cpu)


def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path, cpu: torch.device) -> None:
    hostile = Hostile(tmp_path / "touched")
    torch.save({"Conv2d_1a_3x3.conv.weight": hostile}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="no file of weights"):
        load_inception(tmp_path / "weights.pth", 64, cpu)
    assert not (tmp_path / "touched").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path, cpu: torch.device) -> None:
    path = tmp_path / "weights.pth"
    state = {name: torch.zeros(1) for name in InceptionExtractor(64).state_dict()}
    torch.save(state, path)
    with pytest.raises(UserError, match="another network"):
        load_inception(path, 64, cpu)


def test_a_saved_network_is_loaded_and_agrees(tmp_path: Path, cpu: torch.device) -> None:
    network = InceptionExtractor(192).eval()
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    images = torch.randint(0, 256, (2, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        found, expected = load_inception(path, 192, cpu)(images), network(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", SAVED)
def test_weights_are_found_wherever_tools_put_them(
    tmp_path: Path, cpu: torch.device, way: str
) -> None:
    network = InceptionExtractor(64).eval()
    torch.save(SAVED[way](dict(network.state_dict())), tmp_path / "weights.pth")
    images = torch.randint(0, 256, (1, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        found, expected = load_inception(tmp_path / "weights.pth", 64, cpu)(images), network(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_two_weights_of_one_name_are_refused(tmp_path: Path, cpu: torch.device) -> None:
    state = dict(InceptionExtractor(64).state_dict())
    name = "Conv2d_1a_3x3.conv.weight"
    torch.save(state | {f"module.{name}": state[name]}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=rf"{name} and module.{name} are both {name}; keep one"):
        load_inception(tmp_path / "weights.pth", 64, cpu)


@pytest.mark.parametrize("dims", [64, 192, 768])
def test_features_are_those_of_an_independent_network_of_the_same_weights(
    cpu: torch.device, inception_weights: Path, dims: int
) -> None:
    weights = torch.load(inception_weights, weights_only=True)
    images = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    with torch.no_grad():
        found = load_inception(inception_weights, dims, cpu)(images)
        expected = plain_inception(weights, images, dims)
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_the_measured_distance_between_the_real_classes_comes_out_again(
    tmp_path: Path,
    params: dict[str, Any],
    cpu: torch.device,
    archive: Path,
    inception_weights: Path,
) -> None:
    """Known: 100 against 100 test images at 64 features, 0.127 +- 0.029; at 192, 1.49 +- 0.20."""
    params["data"].update(source="kermany", path=str(archive))
    settings = parse_settings(params)
    table = collected(settings.data, tmp_path, tmp_path)
    test = table[table["split"] == "test"]
    features = {}
    for label in ("NORMAL", "PNEUMONIA"):
        files = test.loc[test["label"] == label, "file"].iloc[::2][:100]
        images = np.stack([decode_image(tmp_path / name, settings.preprocess) for name in files])
        for dims in (64, 192):
            extractor = load_inception(inception_weights, dims, cpu)
            features[label, dims] = FeatureSet(extract_features(extractor, images, 50, cpu))
    narrow, wide = (
        frechet_distance(features["NORMAL", dims], features["PNEUMONIA", dims])
        for dims in (64, 192)
    )
    assert 0.127 - 3 * 0.029 < narrow < 0.127 + 3 * 0.029
    assert 1.485 - 3 * 0.196 < wide < 1.485 + 3 * 0.196


def test_grey_is_repeated_to_three_channels(cpu: torch.device) -> None:
    """The same as an RGB image with equal channels, resized and scaled by hand."""
    network = InceptionExtractor(64).eval()
    grey = np.random.default_rng(0).integers(0, 256, (1, 20, 20), dtype=np.uint8)
    colour = np.asarray(Image.fromarray(grey[0]).convert("RGB")).transpose(2, 0, 1)
    x = torch.from_numpy(colour.copy())[None].float() / 255
    x = F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) * 2 - 1
    with torch.no_grad():
        for layer in network.children():
            x = layer(x)
        found = network(torch.from_numpy(grey))
    torch.testing.assert_close(found, x.mean(dim=(2, 3)))
