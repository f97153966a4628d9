import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from examples.export_extractor import DenseNetFeatures, RadDinoFeatures, export, main
from src.metrics.extractors import ExtractorRequest, open_extractor
from src.metrics.features import extract_features

MEAN, STD = [0.1, 0.3, 0.2], [0.25, 0.2, 0.5]  # of three channels that are not to be confused
rng = np.random.default_rng(0)
SMALL = rng.integers(0, 256, (3, 64, 64), dtype=np.uint8)
LARGE = rng.integers(0, 256, (3, 90, 90), dtype=np.uint8)  # to be reduced where SIZE is 60


class Transformer(nn.Module):
    """A stand-in for a vision transformer: an embedding of one patch, and its output by name."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 6, stride=6)

    def forward(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(pooler_output=self.patches(images)[:, :, 3, 4])


def features(file: Path, dims: int, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of a batch of 2, so the last one is padded."""
    cpu = torch.device("cpu")
    extractor, _ = open_extractor("module", ExtractorRequest(dims, cpu, file))
    return extract_features(extractor, images, 2, cpu)


def resized(images: NDArray[np.uint8], size: int, mode: str) -> NDArray[np.float64]:
    """By Pillow: of floats bilinear, of whole grey values bicubic."""
    dtype, resample = {"bilinear": (np.float32, 2), "bicubic": (np.uint8, 3)}[mode]
    parts = [
        Image.fromarray(image.astype(dtype)).resize((size, size), Image.Resampling(resample))
        for image in images
    ]
    return np.stack([np.asarray(part, dtype=np.float64) for part in parts])


@pytest.fixture
def densenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    monkeypatch.setattr(DenseNetFeatures, "SIZE", 60)
    convolutions = nn.Sequential(nn.Conv2d(1, 7, 5, stride=5))
    export(DenseNetFeatures(convolutions), tmp_path / "densenet.pt2")
    return convolutions, tmp_path / "densenet.pt2"


@pytest.mark.parametrize("images", [SMALL, LARGE])
def test_densenet_sees_1024_times_grey_values_and_gives_means_of_rectified_maps(
    densenet: tuple[nn.Module, Path], images: NDArray[np.uint8]
) -> None:
    convolutions, file = densenet
    x = resized(images, 60, "bilinear") / 255 * 2048 - 1024
    maps = convolutions(torch.from_numpy(x).float().unsqueeze(1)).detach().numpy()
    expected = np.maximum(maps, 0).mean(axis=(2, 3))
    np.testing.assert_allclose(features(file, 7, images), expected, rtol=1e-3)


def test_densenet_sees_black_and_white_as_its_package_does(tmp_path: Path) -> None:
    export(DenseNetFeatures(nn.Identity()), tmp_path / "identity.pt2")
    flat = np.stack([np.full((64, 64), value, dtype=np.uint8) for value in (0, 255)])
    found = features(tmp_path / "identity.pt2", 1, flat)
    np.testing.assert_allclose(found, [[0], [1024]])  # -1024, rectified


@pytest.mark.parametrize("images", [SMALL, LARGE])
def test_rad_dino_sees_pillows_grey_values_standardised(
    tmp_path: Path, images: NDArray[np.uint8]
) -> None:
    torch.manual_seed(0)
    network = Transformer()
    export(RadDinoFeatures(network, 60, MEAN, STD), tmp_path / "rad_dino.pt2")
    grey = resized(images, 60, "bicubic")[:, None] / 255
    x = (grey - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    expected = network(torch.from_numpy(x).float()).pooler_output.detach().numpy()
    found = features(tmp_path / "rad_dino.pt2", 5, images)
    # A pixel may be rounded the other way, by 1 grey value. Floats of another cubic kernel, or
    # channels in another order, would be 0.05 and more away.
    np.testing.assert_allclose(found, expected, atol=0.02)


def stand_ins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put small networks in the place of both packages; return what was asked of them."""
    asked: list[str] = []

    def densenet(weights: str) -> SimpleNamespace:
        asked.append(weights)
        return SimpleNamespace(features=nn.Conv2d(1, 7, 5, stride=5))

    def transformer(name: str) -> nn.Module:
        asked.append(name)
        return Transformer()

    def processor(name: str) -> SimpleNamespace:
        asked.append(name)
        return SimpleNamespace(
            crop_size={"height": 60, "width": 60}, image_mean=MEAN, image_std=STD
        )

    xrv, transformers = ModuleType("torchxrayvision"), ModuleType("transformers")
    vars(xrv)["models"] = SimpleNamespace(DenseNet=densenet)
    vars(transformers)["AutoModel"] = SimpleNamespace(from_pretrained=transformer)
    vars(transformers)["AutoImageProcessor"] = SimpleNamespace(from_pretrained=processor)
    monkeypatch.setitem(sys.modules, "torchxrayvision", xrv)
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    return asked


@pytest.mark.parametrize(
    ("network", "dims", "names"),
    [
        ("torchxrayvision", 7, ["densenet121-res224-all"]),
        ("rad-dino", 5, ["microsoft/rad-dino", "microsoft/rad-dino"]),
    ],
)
def test_the_command_writes_a_module_and_says_how_to_use_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    network: str,
    dims: int,
    names: list[str],
) -> None:
    asked, file = stand_ins(monkeypatch), tmp_path / "network.pt2"
    main([network, str(file)])
    assert asked == names
    assert f"fid.dims to {dims}" in capsys.readouterr().out
    assert features(file, dims, SMALL).shape == (3, dims)


def test_a_missing_package_and_another_ending_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    with pytest.raises(SystemExit, match="torchxrayvision needs its package, see --help"):
        main(["torchxrayvision", str(tmp_path / "network.pt2")])
    with pytest.raises(SystemExit):
        main(["rad-dino", str(tmp_path / "network.pt")])
    assert r"must end in .pt2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
