"""Files of generators: weights, the description that rebuilds the network, and its origin."""

import hashlib
import io
import zipfile
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, ConfigDict, JsonValue
from pydantic.dataclasses import dataclass as checked_dataclass

from ..common.errors import UserError
from ..common.files import write_file
from ..common.paths import generator_path
from ..config.renames import with_new_names
from ..config.train import GeneratorSettings
from ..data.classes import CLASSES
from .networks import Generator

LARGEST_SIDE = 512  # of what a file of a generator draws; `preprocess.image_size` is no larger


def _known(label: str) -> str:
    if label not in CLASSES:
        raise ValueError(f"{label!r} is none of {', '.join(CLASSES)}")
    return label


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Origin:
    """Where a generator comes from; it is kept in its file, and what it draws is named by it."""

    label: Annotated[str, AfterValidator(_known)]  # the class of its images
    source: str  # of the images that it learnt from, as data.source names it
    images: int  # that it learnt from
    images_sha256: str  # of the array of those images
    training: dict[str, JsonValue]  # the parameters of its training


@dataclass(frozen=True)
class SavedGenerator:
    """A generator as its file describes it."""

    network: Generator  # in eval mode
    origin: Origin
    file: Path  # where it was read
    sha256: str  # of the file


def save_generator(path: Path, network: Generator, origin: Origin) -> None:
    """Write the weights, with the description that rebuilds the network, as plain tensors."""
    content: dict[str, Any] = {
        "settings": network.settings.model_dump(mode="json"),
        "image_size": network.image_size,
        "origin": asdict(origin),
        "weights": {name: value.cpu().contiguous() for name, value in network.state_dict().items()},
    }
    # Through memory, because torch writes the file's name into the file.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getvalue())


def load_generator(path: Path, device: torch.device) -> SavedGenerator:
    """Rebuild a saved generator in eval mode on ``device``; no code in the file is run.

    Raises:
        UserError: if the file is missing, damaged, or not a generator of this project.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such generator; dvc repro trains it") from None
    except OSError as error:
        raise UserError(f"{path}: it cannot be read: {error.strerror}") from error
    try:
        _check_entries(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        settings = GeneratorSettings.model_validate(
            with_new_names(content["settings"], "train.*.generator"), strict=False
        )
        image_size, weights = int(content["image_size"]), content["weights"]
        _check_size(settings, image_size, len(data))
        network = Generator(settings, image_size)
        network.load_state_dict(weights)
        origin = Origin(**content["origin"])
        origin = replace(origin, training=with_new_names(origin.training, "train.*"))
    except Exception as error:  # whatever a damaged or foreign file makes torch raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a generator of this project: {reason}") from error
    digest = hashlib.sha256(data).hexdigest()
    return SavedGenerator(network.to(device).eval(), origin, path, digest)


def _check_entries(data: bytes) -> None:
    """Refuse an archive whose entries are packed and may unpack to any size; torch packs none.

    Raises:
        ValueError: with both sizes.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > len(data):
        raise ValueError(f"its {len(data)} bytes would unpack to {unpacked}")


def _check_size(settings: GeneratorSettings, image_size: int, size: int) -> None:
    """Refuse a description that asks for more memory than a file of its size, or any, is worth.

    Raises:
        ValueError: with both numbers of values.
    """
    if not 0 < image_size <= LARGEST_SIDE:
        raise ValueError(f"it draws images of {image_size} pixels a side")
    settings.check_image_size(image_size)
    held = size // torch.float32.itemsize
    widths = (settings.base_channels, *settings.channels, 1)
    kernels = (*settings.kernels, settings.output_kernel)
    asked = settings.latent_dim * settings.base_size(
        image_size
    ) ** 2 * settings.base_channels + sum(
        kernel**2 * before * after
        for (before, after), kernel in zip(pairwise(widths), kernels, strict=True)
    )
    if asked > held:
        raise ValueError(f"it describes {asked} weights and holds {held} at most")


def load_generators(device: torch.device) -> dict[str, Generator]:
    """Load the trained generator of each class from the workspace; errors as ``load_generator``."""
    return {label: load_generator(generator_path(label), device).network for label in CLASSES}
