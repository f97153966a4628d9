"""Feature extractors by name, and two small ones: pixels, and a network of the user's."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..common.errors import UserError
from ..common.files import expand_user, sha256_of_file
from ..common.logging import logger
from ..config.fid import ClassifierSettings, FidSettings
from ..config.registry import EXTRACTORS, load
from ..data.dataset import ImageSet
from ..data.download import cache_folder, download_inception
from .classifier import cached_classifier
from .features import FeatureExtractor
from .inception import load_inception


def weights_path(settings: FidSettings, root: Path) -> Path | None:
    """Return the path of the extractor's file; None if the parameters name none.

    Args:
        settings: the fid section.
        root: folder that a relative path starts from.
    """
    return root / expand_user(settings.weights) if settings.weights else None


def weights_checksum(settings: FidSettings, path: Path) -> str:
    """Return the SHA-256 of the extractor's file.

    Raises:
        UserError: if it is missing, or not the one that the parameters name.
    """
    if not path.is_file():
        raise UserError(f"fid.weights: {path}: there is no such file")
    checksum = sha256_of_file(path)
    if settings.weights_sha256 not in ("", checksum):
        raise UserError(f"fid.weights_sha256: {path} has the checksum {checksum}")
    return checksum


def weights_name(settings: FidSettings, root: Path) -> str:
    """Return the SHA-256 of the extractor's file; an empty text if the parameters name none.

    Raises:
        UserError: as ``weights_checksum``.
    """
    path = weights_path(settings, root)
    return "" if path is None else weights_checksum(settings, path)


ExtractorInfo = dict[str, Any]  # facts of an extractor for the report, by name


@dataclass(frozen=True)
class ExtractorRequest:
    """Arguments of the code of each extractor in ``registry.EXTRACTORS``."""

    dims: int
    device: torch.device
    weights: Path | None = None  # of the FID network, downloaded if None; or the module's file
    resize: str = "pytorch-fid"  # of the FID network, a key of ``registry.RESIZES``
    scaling: str = "standard"  # as well, a key of ``registry.INPUT_SCALINGS``
    # Of the classifier: its settings, its seed, and a function that gives the train images.
    classifier: ClassifierSettings | None = None
    seed: int = 0
    train: Callable[[], Mapping[str, ImageSet]] | None = None
    # Of radiomics: a function that gives real images, uint8 (n, h, w), to standardise features by.
    reference: Callable[[], Sequence[NDArray[np.uint8]]] | None = None


def choose_extractor(
    settings: FidSettings,
    root: Path,
    train: Callable[[], Mapping[str, ImageSet]],
    device: torch.device,
) -> tuple[FeatureExtractor, ExtractorInfo]:
    """Return the extractor that the parameters name, and its facts for the report.

    Args:
        settings: the fid section.
        root: folder that a relative path of weights starts from.
        train: function that returns the train images of each class, for extractors that need them.
        device: device to run on.

    Raises:
        UserError: if its weights are missing, or not those that the parameters name.
    """
    path = weights_path(settings, root)
    if path is None and settings.extractor == "inception":
        path = download_inception()
    checksum = {} if path is None else {"weights_sha256": weights_checksum(settings, path)}
    request = ExtractorRequest(
        settings.dims,
        device,
        path,
        settings.resize,
        settings.input_scaling,
        settings.classifier,
        settings.seed,
        train,
        lambda: [part.images for part in train().values()],
    )
    extractor, info = open_extractor(settings.extractor, request)
    return extractor, info | checksum


def open_extractor(name: str, request: ExtractorRequest) -> tuple[FeatureExtractor, ExtractorInfo]:
    """Open an extractor by its name in ``registry.EXTRACTORS``.

    Raises:
        UserError: if a file is missing or gives other features.
    """
    opened: tuple[FeatureExtractor, ExtractorInfo] = load(EXTRACTORS[name])(request)
    return opened


def open_classifier(request: ExtractorRequest) -> tuple[FeatureExtractor, ExtractorInfo]:
    """Train the classifier, or read it from the cache."""
    assert request.classifier is not None
    assert request.train is not None
    trained = cached_classifier(
        request.train(),
        request.classifier,
        request.dims,
        request.seed,
        request.device,
        cache_folder() / "classifiers",
    )
    logger.info(
        f"classifier: balanced accuracy {trained.held_out_accuracy:.1%} on "
        f"{trained.held_out_images} images of patients that it has not seen"
    )
    return trained.extractor, {
        "held_out_accuracy": trained.held_out_accuracy,
        "held_out_images": trained.held_out_images,
    }


def open_inception(request: ExtractorRequest) -> tuple[FeatureExtractor, ExtractorInfo]:
    """Load the FID network."""
    path = request.weights or download_inception()
    network = load_inception(path, request.dims, request.device, request.resize, request.scaling)
    return network, {"resize": request.resize, "input_scaling": request.scaling}


def open_pixels(request: ExtractorRequest) -> tuple[FeatureExtractor, ExtractorInfo]:
    """Make the extractor of grey values."""
    return PixelExtractor(request.dims), {}


def open_module(request: ExtractorRequest) -> tuple[FeatureExtractor, ExtractorInfo]:
    """Load a network of the user's."""
    if request.weights is None:
        raise UserError("the module extractor needs the file of a module as its weights")
    return ModuleExtractor(request.weights, request.dims, request.device), {}


class PixelExtractor:
    """Extractor of grey values in [0, 1] of images reduced to ``dims`` pixels, a weak baseline.

    Each value is the mean of an area.
    """

    name = "pixels"

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self.fingerprint = f"pixels {dims}"
        self._side = math.isqrt(dims)
        if self._side**2 != dims:
            raise UserError(f"dims: {dims} is no square number, as pixels need")

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, dims), of uint8 images (n, h, w)."""
        x = images.unsqueeze(1).float().div_(255)
        return F.adaptive_avg_pool2d(x, self._side).flatten(1)


class ModuleExtractor:
    """A network from a user's file, such as one trained on medical images.

    It takes uint8 images (n, 3, h, w), the grey channel repeated, resizes and scales them itself,
    and returns floating-point features (n, dims).
    """

    name = "module"

    def __init__(self, path: Path, dims: int, device: torch.device) -> None:
        self.dims = dims
        self._module = _load_module(path, device)
        self.fingerprint = f"module {dims} {sha256_of_file(path)}"

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, dims), of uint8 images (n, h, w)."""
        try:
            features = self._module(images.unsqueeze(1).expand(-1, 3, -1, -1).contiguous())
        except Exception as error:  # whatever a foreign network raises
            reason = " ".join(str(error).split())[-300:]
            raise UserError(f"the module failed on uint8 images: {reason}") from error
        if not isinstance(features, Tensor):
            raise UserError("the module must give one tensor of features")
        return features


def _load_module(path: Path, device: torch.device) -> "torch.nn.Module":
    """Load a TorchScript file, or a program that torch.export saved (``.pt2``).

    The file is a program, so its author must be trusted.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        if path.suffix == ".pt2":
            return torch.export.load(path).module().to(device)
        return torch.jit.load(path, map_location=device).eval()
    except Exception as error:  # whatever a damaged file makes torch raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} is neither TorchScript nor an exported program: {reason}"
        ) from error
