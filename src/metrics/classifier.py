"""A small CNN that classifies NORMAL and PNEUMONIA; its features can replace Inception's.

Features that were trained to separate the classes favour the hypothesis that same-class distances
are smaller. So the report names the extractor.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..common import rng as rng_module
from ..common.cache import FileCache
from ..common.errors import UserError
from ..common.files import sha256_of_array, sha256_of_files
from ..common.progress import Progress
from ..common.rng import Stream, numpy_stream, torch_stream
from ..config.fid import ClassifierSettings
from ..data import patients as patients_module
from ..data.dataset import ImageSet
from ..models import initialization, sampling
from ..models.initialization import initialize_for_relu
from ..models.sampling import to_unit_range

CPU = torch.device("cpu")
MAX_CACHE_BYTES = 64 << 20  # of all classifiers
# Modules that the weights depend on, besides this one.
CACHED_CODE = (initialization, patients_module, rng_module, sampling)
MAX_NOISE = 20.0  # maximum standard deviation of the added noise, in grey levels


class ClassifierExtractor(nn.Module):
    """Network of strided convolutions, global average pooling, a feature layer and one logit."""

    name = "classifier"

    def __init__(self, settings: ClassifierSettings, dims: int) -> None:
        super().__init__()
        self.dims = dims
        layers: list[nn.Module] = []
        inputs = 1
        for outputs in settings.channels:
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        self.convolutions = nn.Sequential(*layers)
        self.features = nn.Linear(inputs, dims)
        self.logit = nn.Linear(dims, 1)

    @property
    def fingerprint(self) -> str:
        """Text that differs for different weights, which determine the features."""
        digest = hashlib.sha256()
        for name, value in self.state_dict().items():
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        return f"classifier {digest.hexdigest()}"

    def forward(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, dims), of uint8 images (n, size, size)."""
        x = to_unit_range(images)
        return self.features(self.convolutions(x).mean(dim=(2, 3)))

    def classify(self, images: Tensor) -> Tensor:
        """Compute logits (n,), positive for pneumonia, of uint8 images (n, size, size)."""
        return self.logit(F.relu(self(images))).squeeze(1)


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained extractor, and its accuracy on patients that it has not seen."""

    extractor: ClassifierExtractor
    held_out_accuracy: float  # balanced: the mean over the two classes
    held_out_images: int
    losses: tuple[float, ...]  # mean of each epoch


def train_classifier(
    train: Mapping[str, ImageSet],
    settings: ClassifierSettings,
    dims: int,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[], None] = lambda: None,
) -> TrainedClassifier:
    """Train the classifier on real images and test it on held-out patients.

    Both classes have the same weight in the loss.

    Args:
        train: the train images of each class; memory maps are read by batch.
        settings: network and schedule; ``held_out_fraction`` of the images, by whole patients, are
            for the test.
        dims: number of features.
        seed: seed of all random numbers.
        device: device to train on.
        on_epoch: function that is called after each epoch.

    Raises:
        UserError: if a class has too few patients to hold any out.
    """
    # Hold out whole patients of each class.
    images = [part.images for part in train.values()]
    kept, held = [], []
    for number, part in enumerate(train.values()):
        rng = numpy_stream(Stream.CLASSIFIER_HOLD_OUT, seed, number)
        try:
            inside, outside = part.patients.split(settings.held_out_fraction, rng)
        except ValueError:
            raise UserError(
                "the classifier needs images of two patients or more in each class"
            ) from None
        kept.append(inside)
        held.append(outside)
    # Build the network and the labels.
    network = _new_network(settings, dims, seed).to(device)
    count = sum(len(indices) for indices in kept)
    y = torch.tensor([0.0] * len(kept[0]) + [1.0] * len(kept[1]), device=device)

    def batch_of(chosen: NDArray[np.int64]) -> Tensor:
        """Read the kept images at some indices; NORMAL images come first in the count."""
        part = np.empty((len(chosen), *images[0].shape[1:]), dtype=np.uint8)
        is_pneumonia = chosen >= len(kept[0])
        part[~is_pneumonia] = images[0][kept[0][chosen[~is_pneumonia]]]
        part[is_pneumonia] = images[1][kept[1][chosen[is_pneumonia] - len(kept[0])]]
        return torch.from_numpy(part).to(device)

    # Each class weighs the same, however many images it has.
    weight = torch.where(y > 0, len(y) / (2 * len(kept[1])), len(y) / (2 * len(kept[0])))
    shuffle = torch_stream(CPU, Stream.CLASSIFIER_SHUFFLE, seed)
    augmentation = torch_stream(CPU, Stream.CLASSIFIER_AUGMENTATION, seed)
    adam = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    # Train for some epochs.
    losses = []
    network.train()
    for _ in range(settings.epochs):
        total = torch.zeros((), dtype=torch.float64, device=device)
        for chosen in torch.randperm(count, generator=shuffle).split(settings.batch_size):
            if len(chosen) < 2:  # batch normalisation needs two
                continue
            augmented = _augmented(batch_of(chosen.numpy()), augmentation)
            loss = F.binary_cross_entropy_with_logits(
                network.classify(augmented), y[chosen], weight[chosen]
            )
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += loss.detach() * len(chosen)
        losses.append(float(total) / count)
        on_epoch()
    # Test on the held-out patients.
    network.eval()
    positive = [
        _positive_rate(network, part, indices, device, settings.batch_size)
        for part, indices in zip(images, held, strict=True)
    ]
    return TrainedClassifier(
        extractor=network,
        held_out_accuracy=(1 - positive[0] + positive[1]) / 2,
        held_out_images=sum(len(indices) for indices in held),
        losses=tuple(losses),
    )


def cached_classifier(
    train: Mapping[str, ImageSet],
    settings: ClassifierSettings,
    dims: int,
    seed: int,
    device: torch.device,
    folder: Path,
) -> TrainedClassifier:
    """Return the trained classifier from a cache folder; train it first if it is not there.

    The file's name is a hash of all that its bytes depend on. Processes that need the same
    classifier at once wait for the first.

    Args:
        train: the train images of each class.
        settings: network and schedule.
        dims: number of features.
        seed: seed of all random numbers.
        device: device to train on.
        folder: folder of the cache.

    Raises:
        UserError: as ``train_classifier``.
    """
    files = FileCache(folder, ".pt", MAX_CACHE_BYTES)
    key = _cache_key(train, settings, dims, seed, device)
    with files.lock(key):
        cached = files.read(key, partial(torch.load, map_location="cpu", weights_only=True))
        if cached is None:
            with Progress("training the judging classifier", settings.epochs, "epochs") as shown:
                trained = train_classifier(train, settings, dims, seed, device, shown.advance)
            files.write(key, partial(torch.save, _content(trained)))
            return trained
    network = ClassifierExtractor(settings, dims)
    network.load_state_dict(cached.pop("weights"))
    return TrainedClassifier(network.to(device).eval(), **cached)


def _content(trained: TrainedClassifier) -> dict[str, Any]:
    """Return what the cache keeps of a classifier: its weights on the CPU, and its facts."""
    weights = {name: value.cpu() for name, value in trained.extractor.state_dict().items()}
    return {
        "weights": weights,
        "held_out_accuracy": trained.held_out_accuracy,
        "held_out_images": trained.held_out_images,
        "losses": trained.losses,
    }


def _cache_key(
    train: Mapping[str, ImageSet],
    settings: ClassifierSettings,
    dims: int,
    seed: int,
    device: torch.device,
) -> str:
    """Hash all that the trained weights depend on: images, patients, settings, code, machine."""
    sets = [
        (sha256_of_array(part.images), sha256_of_array(part.patients.ids))
        for part in train.values()
    ]
    kind = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    machine = (kind, torch.get_num_threads(), torch.__version__)
    code = sha256_of_files(
        Path(module.__file__ or "") for module in (sys.modules[__name__], *CACHED_CODE)
    )
    content = (sets, settings.model_dump_json(), dims, seed, machine, code)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _augmented(images: Tensor, random: torch.Generator) -> Tensor:
    """Mirror images at random, and change their contrast, brightness and noise.

    The class stays. The augmentation enlarges a small set. It also makes the features ignore grain
    and exposure, in which generated images differ from real ones of any class.

    Args:
        images: uint8 (n, size, size).
        random: generator of all draws, on the CPU.

    Returns:
        uint8 (n, size, size).
    """
    count = len(images)

    def draw(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=random)

    mirrored = draw(1, 1) < 0.5
    contrast, brightness = 0.8 + 0.4 * draw(1, 1), 40 * draw(1, 1) - 20
    noise = torch.randn(images.shape, generator=random) * MAX_NOISE * draw(1, 1)
    x = torch.where(mirrored.to(images.device), images.flip(2), images).float()
    x = (x - 128) * contrast.to(x.device) + 128 + (brightness + noise).to(x.device)
    return x.round_().clamp_(0, 255).to(torch.uint8)


def _new_network(settings: ClassifierSettings, dims: int, seed: int) -> ClassifierExtractor:
    """Make an untrained network with random weights."""
    random = torch_stream(CPU, Stream.CLASSIFIER_WEIGHTS, seed)
    return initialize_for_relu(ClassifierExtractor(settings, dims), random)


@torch.no_grad()
def _positive_rate(
    network: ClassifierExtractor,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    device: torch.device,
    batch: int,
) -> float:
    """Compute the share of the images at ``indices`` that are classified as pneumonia, 0 to 1."""
    positive = 0
    for start in range(0, len(indices), batch):
        part = torch.from_numpy(images[indices[start : start + batch]])
        positive += int((network.classify(part.to(device)) > 0).sum())
    return positive / len(indices)
