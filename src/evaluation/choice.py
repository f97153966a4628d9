"""The feature extractor that the parameters name, for all that judges by features."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.data.download import download_inception
from src.errors import UserError
from src.evaluation.classifier import train_classifier
from src.evaluation.extractors import load_extractor
from src.evaluation.features import FeatureExtractor
from src.files import expanded, sha256_of_file
from src.progress import say
from src.settings.fid import FidSettings

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def weights_path(settings: FidSettings, root: Path) -> Path | None:
    """Where the extractor's file lies; None if the parameters name none.

    Args:
        settings: name it.
        root: what a relative path is relative to.
    """
    return root / expanded(settings.weights) if settings.weights else None


def weights_checksum(settings: FidSettings, path: Path) -> str:
    """The SHA-256 of the extractor's file.

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
    """What names the content of the extractor's file; empty if the parameters name none.

    Raises:
        UserError: as ``weights_checksum``.
    """
    path = weights_path(settings, root)
    return "" if path is None else weights_checksum(settings, path)


def choose_extractor(
    settings: FidSettings,
    root: Path,
    real: tuple[Pair, tuple[list[str], list[str]]],
    device: torch.device,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> tuple[FeatureExtractor, dict[str, Any]]:
    """The extractor, and what should be said of it.

    Args:
        settings: name it.
        root: what a relative path of weights is relative to.
        real: images of both classes, uint8 (n, size, size), and the patient of each: what the
            classifier learns from, if it is chosen.
        device: what to run on.
        on_epoch: told the classifier's epochs and losses.

    Raises:
        UserError: if its weights are missing, or not those that the parameters name.
    """
    if settings.extractor != "classifier":
        path = weights_path(settings, root)
        known = {}
        if settings.extractor == "inception":
            path = path or download_inception()
            known = {"resize": settings.resize, "input_scaling": settings.input_scaling}
        if path is not None:
            known["weights_sha256"] = weights_checksum(settings, path)
        loaded = load_extractor(
            settings.extractor,
            settings.dims,
            path,
            settings.resize,
            settings.input_scaling,
            device,
        )
        return loaded, known
    trained = train_classifier(
        *real, settings.classifier, settings.dims, settings.seed, device, on_epoch
    )
    say(
        f"classifier: balanced accuracy {trained.held_out_accuracy:.1%} on "
        f"{trained.held_out_images} images of patients that it has not seen"
    )
    return trained.extractor, {
        "held_out_accuracy": trained.held_out_accuracy,
        "held_out_images": trained.held_out_images,
    }
