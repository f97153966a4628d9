from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.metrics.extractors import ExtractorRequest, ModuleExtractor, PixelExtractor, open_extractor
from src.metrics.features import extract_features

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)


class Colours(nn.Module):
    """Mean and largest value of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() / 255
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], 1)


def test_pixels_are_means_of_areas(cpu: torch.device) -> None:
    found = extract_features(PixelExtractor(16), IMAGES, 4, cpu)
    expected = IMAGES.reshape(5, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(5, 16) / 255
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pixels_need_a_square_number() -> None:
    with pytest.raises(UserError, match="no square number"):
        PixelExtractor(15)


def test_a_torchscript_file_is_given_grey_as_three_channels(
    tmp_path: Path, cpu: torch.device
) -> None:
    path = tmp_path / "network.pt"
    torch.jit.save(torch.jit.trace(Colours(), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)), path)
    found = extract_features(
        open_extractor("module", ExtractorRequest(6, cpu, path))[0], IMAGES, 4, cpu
    )
    np.testing.assert_allclose(found[:, 1], IMAGES.mean(axis=(1, 2)) / 255, rtol=1e-5)
    np.testing.assert_allclose(found[:, 5], IMAGES.max(axis=(1, 2)) / 255, rtol=1e-5)


def test_an_exported_program_works_as_well(tmp_path: Path, cpu: torch.device) -> None:
    path = tmp_path / "network.pt2"
    example = (torch.zeros(4, 3, 16, 16, dtype=torch.uint8),)
    torch.export.save(torch.export.export(Colours(), example), path)
    found = extract_features(ModuleExtractor(path, 6, cpu), IMAGES, 4, cpu)
    np.testing.assert_allclose(found[:, 0], IMAGES.mean(axis=(1, 2)) / 255, rtol=1e-5)


def test_a_module_with_other_features_is_refused(tmp_path: Path, cpu: torch.device) -> None:
    path = tmp_path / "network.pt"
    torch.jit.save(torch.jit.trace(Colours(), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)), path)
    with pytest.raises(UserError, match=r"dims: the module extractor gives \(4, 6\)"):
        extract_features(ModuleExtractor(path, 5, cpu), IMAGES, 4, cpu)


def test_a_file_that_is_no_module_is_refused(tmp_path: Path, cpu: torch.device) -> None:
    for name in ("network.pt", "network.pt2"):
        (tmp_path / name).write_bytes(b"text")
        with pytest.raises(UserError, match=f"{name} is neither TorchScript nor an exported"):
            ModuleExtractor(tmp_path / name, 6, cpu)
    with pytest.raises(UserError, match="there is no such file"):
        ModuleExtractor(tmp_path / "absent.pt", 6, cpu)
    with pytest.raises(UserError, match="needs the file of a module"):
        open_extractor("module", ExtractorRequest(6, cpu))
