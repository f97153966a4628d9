"""A small CNN that tells the two classes apart; its features can stand in for Inception's.

Features trained to tell the classes favour the hypothesis that same-class distances are smaller,
so the report says which extractor was used.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..common.errors import UserError
from ..common.rng import random_stream
from ..config.fid import ClassifierSettings
from ..models.initialization import initialize_for_relu
from ..models.sampling import to_unit_range

WEIGHTS, SHUFFLE, SPLIT, DISTURBANCE = range(10, 14)  # streams of randomness
NOISE = 20.0  # largest standard deviation of the noise that a training image gets, in grey levels


class ClassifierExtractor(nn.Module):
    """Strided convolutions, average over the map, a feature layer, one logit."""

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
        """What determines the features: the weights."""
        digest = hashlib.sha256()
        for name, value in self.state_dict().items():
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        return f"classifier {digest.hexdigest()}"

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (n, size, size) to float32 (n, dims)."""
        x = to_unit_range(images)
        return self.features(self.convolutions(x).mean(dim=(2, 3)))

    def classify(self, images: Tensor) -> Tensor:
        """uint8 (n, size, size) to (n,) logits, positive for pneumonia."""
        return self.logit(F.relu(self(images))).squeeze(1)


@dataclass(frozen=True)
class TrainedClassifier:
    """An extractor and how well it tells patients apart that it has not seen."""

    extractor: ClassifierExtractor
    held_out_accuracy: float  # balanced: the mean over the two classes
    held_out_images: int


def train_classifier(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    patients: tuple[list[str], list[str]],
    settings: ClassifierSettings,
    dims: int,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> TrainedClassifier:
    """Train on real images, both classes weighing the same, and test on held-out patients.

    Args:
        images: NORMAL and PNEUMONIA, uint8 (n, size, size) each; memory maps are read by batch.
        patients: the patient of each image.
        settings: network and schedule; ``held_out`` is the share of patients kept for the test.
        dims: width of the features.
        seed: names the randomness.
        device: what to train on.
        on_epoch: told the epoch and its mean loss.

    Raises:
        UserError: if a class has too few patients to hold any out.
    """
    kept, held = [], []
    for label, names in enumerate(patients):
        inside = _held_out(names, settings.held_out_fraction, (seed, SPLIT, label))
        kept.append(np.flatnonzero(~inside))
        held.append(np.flatnonzero(inside))
    network = _new_network(settings, dims, seed).to(device)
    count = sum(len(places) for places in kept)
    y = torch.tensor([0.0] * len(kept[0]) + [1.0] * len(kept[1]), device=device)

    def batch_of(chosen: NDArray[np.int64]) -> Tensor:
        """The kept images at some places, NORMAL ones counted first."""
        part = np.empty((len(chosen), *images[0].shape[1:]), dtype=np.uint8)
        sick = chosen >= len(kept[0])
        part[~sick] = images[0][kept[0][chosen[~sick]]]
        part[sick] = images[1][kept[1][chosen[sick] - len(kept[0])]]
        return torch.from_numpy(part).to(device)

    # Each class weighs the same, however many images it has.
    weight = torch.where(y > 0, len(y) / (2 * len(kept[1])), len(y) / (2 * len(kept[0])))
    shuffle = random_stream(torch.device("cpu"), seed, SHUFFLE)
    disturbance = random_stream(torch.device("cpu"), seed, DISTURBANCE)
    adam = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    network.train()
    for epoch in range(1, settings.epochs + 1):
        total = torch.zeros((), dtype=torch.float64, device=device)
        for chosen in torch.randperm(count, generator=shuffle).split(settings.batch_size):
            if len(chosen) < 2:  # batch normalisation needs two
                continue
            disturbed = _disturbed(batch_of(chosen.numpy()), disturbance)
            loss = F.binary_cross_entropy_with_logits(
                network.classify(disturbed), y[chosen], weight[chosen]
            )
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += loss.detach() * len(chosen)
        on_epoch(epoch, float(total) / count)
    network.eval()
    accuracy = [
        _share_positive(network, part, places, device, settings.batch_size)
        for part, places in zip(images, held, strict=True)
    ]
    return TrainedClassifier(
        extractor=network,
        held_out_accuracy=(1 - accuracy[0] + accuracy[1]) / 2,
        held_out_images=sum(len(places) for places in held),
    )


def _disturbed(images: Tensor, random: torch.Generator) -> Tensor:
    """Images, uint8 (n, size, size), mirrored, noisier, brighter or flatter at random.

    None of this changes the class. It enlarges a small set, and it keeps the features from
    resting on grain and exposure, in which generated images differ from real ones of any class.
    """
    count = len(images)

    def draw(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=random)

    mirrored = draw(1, 1) < 0.5
    contrast, brightness = 0.8 + 0.4 * draw(1, 1), 40 * draw(1, 1) - 20
    noise = torch.randn(images.shape, generator=random) * NOISE * draw(1, 1)
    x = torch.where(mirrored.to(images.device), images.flip(2), images).float()
    x = (x - 128) * contrast.to(x.device) + 128 + (brightness + noise).to(x.device)
    return x.round_().clamp_(0, 255).to(torch.uint8)


def _new_network(settings: ClassifierSettings, dims: int, seed: int) -> ClassifierExtractor:
    """An untrained network."""
    random = random_stream(torch.device("cpu"), seed, WEIGHTS)
    return initialize_for_relu(ClassifierExtractor(settings, dims), random)


def _held_out(patients: list[str], share: float, key: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which images belong to the patients that are held out."""
    names = sorted(set(patients))
    if len(names) < 2:
        raise UserError("the classifier needs images of two patients or more in each class")
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    chosen = set(np.random.default_rng(key).permutation(names)[:count].tolist())
    return np.array([name in chosen for name in patients])


@torch.no_grad()
def _share_positive(
    network: ClassifierExtractor,
    images: NDArray[np.uint8],
    places: NDArray[np.int64],
    device: torch.device,
    batch: int,
) -> float:
    """Share of the images at some places that are called pneumonia."""
    positive = 0
    for start in range(0, len(places), batch):
        part = torch.from_numpy(images[places[start : start + batch]])
        positive += int((network.classify(part.to(device)) > 0).sum())
    return positive / len(places)
