"""Generator files: weights, the description that rebuilds the network, and its origin."""

import hashlib
import io
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, ConfigDict, JsonValue
from pydantic.dataclasses import dataclass as checked_dataclass

from ..common.errors import UserError
from ..common.files import write_file
from ..common.paths import generator_path
from ..common.weights import find_weights, open_containers
from ..config.registry import ARCHITECTURES
from ..config.renames import with_new_names
from ..config.train import GeneratorSettings
from ..data.classes import CLASSES
from .architectures import load_architecture
from .networks import Generator, count_parameters

MAX_IMAGE_SIZE = 512  # pixels a side that a file may ask for; `preprocess.image_size` is no larger


def _check_label(label: str) -> str:
    """Return the label of a class, or raise ValueError."""
    if label not in CLASSES:
        raise ValueError(f"{label!r} is none of {', '.join(CLASSES)}")
    return label


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Origin:
    """What a generator was trained on and how; its file holds this."""

    label: Annotated[str, AfterValidator(_check_label)]  # the class of its images
    source: str  # of the train images, a value of data.source
    images: int  # number of train images
    images_sha256: str  # of the array of train images
    training: dict[str, JsonValue]  # the parameters train.<class>


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator as its file describes it."""

    network: Generator  # in eval mode
    origin: Origin
    file: Path  # that it was read from
    sha256: str  # of that file


def save_generator(path: Path, network: Generator, origin: Origin) -> None:
    """Write a generator's weights, the description that rebuilds it, and its origin to ``path``.

    The file holds plain tensors, numbers and texts.
    """
    content: dict[str, Any] = {
        "architecture": network.architecture,
        "settings": network.settings.model_dump(mode="json"),
        "image_size": network.image_size,
        "origin": asdict(origin),
        "weights": {name: value.cpu().contiguous() for name, value in network.state_dict().items()},
    }
    # Through memory, because torch writes the file's name into the file.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getvalue())


def load_generator(path: Path, device: torch.device) -> LoadedGenerator:
    """Rebuild a saved generator in eval mode on ``device``; no code in the file is run.

    Files of earlier versions, with the parameters' old names and no architecture, load too, and so
    do weights that another tool saved with a wrapper's names or within a checkpoint.

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
        content = open_containers(content, "settings")
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        settings = GeneratorSettings.model_validate(
            with_new_names(content["settings"], "train.*.generator"), strict=False
        )
        image_size = int(content["image_size"])
        # Before architectures had names there was one.
        kind = _generator_class(content.get("architecture", "dcgan"))
        _check_size(kind, settings, image_size, len(data))
        network = kind(settings, image_size)
        network.load_state_dict(find_weights(content, network.state_dict().keys()))
        origin = Origin(**content["origin"])
        origin = replace(origin, training=with_new_names(origin.training, "train.*"))
    except Exception as error:  # whatever a damaged or foreign file makes torch raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a generator of this project: {reason}") from error
    digest = hashlib.sha256(data).hexdigest()
    return LoadedGenerator(network.to(device).eval(), origin, path, digest)


def _check_entries(data: bytes) -> None:
    """Refuse an archive with compressed entries, which may unpack to any size; torch's have none.

    Raises:
        ValueError: with both sizes.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > len(data):
        raise ValueError(f"its {len(data)} bytes would unpack to {unpacked}")


def _generator_class(architecture: str) -> type[Generator]:
    """Return the generator's class of an architecture.

    Raises:
        ValueError: if there is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"its architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}")
    return load_architecture(architecture).generator


def _check_size(
    kind: type[Generator], settings: GeneratorSettings, image_size: int, file_bytes: int
) -> None:
    """Refuse a description that asks for more memory than a file of its size, or any, is worth.

    Raises:
        ValueError: with both numbers of values.
    """
    if not 0 < image_size <= MAX_IMAGE_SIZE:
        raise ValueError(f"it draws images of {image_size} pixels a side")
    settings.check_image_size(image_size)
    # Normalisation adds few values, and spectral normalisation does not work on the meta device.
    bare = settings.model_copy(update={"normalization": "none"})
    with torch.device("meta"):  # has shapes and takes no memory
        described = count_parameters(kind(bare, image_size))
    held = file_bytes // torch.float32.itemsize
    if described > held:
        raise ValueError(f"it describes {described} weights and holds {held} at most")


def load_generators(device: torch.device) -> dict[str, Generator]:
    """Load the trained generator of each class from the workspace; errors as ``load_generator``."""
    return {label: load_generator(generator_path(label), device).network for label in CLASSES}
