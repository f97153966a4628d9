"""Classifiers of NORMAL and PNEUMONIA, and the recipe by which all of them are trained.

LeNet-5 (LeCun et al., 1998) is the classifier that the thesis explains. A small residual network
(He et al., 2016) stands for current architectures.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..common.errors import UserError
from ..common.rng import Stream, torch_stream
from ..config.utility import UtilitySettings
from ..data.classes import CLASSES
from ..data.dataset import ImageSet
from ..models.initialization import initialize_for_relu
from ..models.sampling import to_unit_range

CPU = torch.device("cpu")
VALIDATIONS = 10  # at most, in one training
ROTATION, TRANSLATION, SCALE = math.radians(10), 0.1, 0.1  # at most; of half the side, and of 1
EXPOSURE = 0.2  # at most, of half the range of grey values, and of 1
WEIGHT_DECAY = 0.01
PREDICTION_BATCH = 256
Logits = NDArray[np.float64]


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling, as in later implementations, and one logit."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5, padding=2)
        self.dense1 = nn.Linear(16 * (size // 4) ** 2, 120)
        self.dense2, self.logit = nn.Linear(120, 84), nn.Linear(84, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 1, size, size) in [-1, 1] to logits (n,), positive for pneumonia."""
        for convolution in (self.conv1, self.conv2):
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        x = F.relu(self.dense2(F.relu(self.dense1(x.flatten(1)))))
        return self.logit(x).squeeze(1)


class _Residual(nn.Module):
    """Residual block of two convolutions and a shortcut, which halves the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / 2, w / 2)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResidualNetwork(nn.Module):
    """Residual network of a convolution, three blocks, global average pooling and one logit."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(_Residual(16, 32), _Residual(32, 64), _Residual(64, 64))
        self.logit = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 1, size, size) in [-1, 1] to logits (n,), positive for pneumonia."""
        x = F.relu(self.norm(self.stem(x)))
        return self.logit(self.blocks(x).mean((2, 3))).squeeze(1)


# Each takes the side of the images in pixels.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "LeNet-5": LeNet,
    "residual": ResidualNetwork,
}


@dataclass(frozen=True)
class Recipe:
    """What the batches of a training consist of, and how they count."""

    parts: Sequence[tuple[ImageSet, int]]  # image sets, and the images of each in a batch
    augmented: bool  # by classical augmentation
    weights: tuple[float, float] | None = None  # of NORMAL and PNEUMONIA in the loss; None: equal
    prevalence: float = 0.5  # of PNEUMONIA, as the loss sees it


def balanced_recipe(
    sources: Sequence[ImageSet],
    augmented: bool,
    batch_size: int,
    shares: Sequence[float] | None = None,
) -> Recipe:
    """Return the recipe of batches with the same number of images of each class.

    Args:
        sources: image sets to train on. One may lack a class: then the others have its part.
        augmented: whether to apply classical augmentation to each batch.
        batch_size: images of a batch, of which each source and class has one or more.
        shares: of each source in a class's part of a batch; None: equal ones.
    """
    weights = shares or [1.0] * len(sources)
    chosen = [
        (source.take(rows), weight, label)
        for source, weight in zip(sources, weights, strict=True)
        for label in CLASSES
        if len(rows := source.class_indices(label))
    ]
    total = {label: sum(w for _, w, of in chosen if of == label) for label in CLASSES}
    half = batch_size // len(CLASSES)
    # The remainder of equal parts is dropped.
    parts = [
        (part, max(int(half * weight / total[label] + 1e-9), 1)) for part, weight, label in chosen
    ]
    return Recipe(parts, augmented)


def train_network(
    network: str,
    sources: Sequence[ImageSet],
    validation: ImageSet,
    augmented: bool,
    settings: UtilitySettings,
    key: tuple[int, int],
    device: torch.device,
) -> nn.Module:
    """Train a network and return it with the weights of the lowest validation loss.

    Every batch has the same number of images of each class, and of each source.

    Args:
        network: name of the network in ``NETWORKS``.
        sources: image sets to train on, each of both classes.
        validation: real images of other patients.
        augmented: whether to apply classical augmentation to each batch.
        settings: the training schedule.
        key: index of the network and number of the repeat, for the random streams.
        device: the device to train on.

    Raises:
        UserError: if the training diverges.
    """
    recipe = balanced_recipe(sources, augmented, settings.batch_size)
    return train_by_recipe(network, recipe, validation, settings, key, device)[0]


def train_by_recipe(
    network: str,
    recipe: Recipe,
    validation: ImageSet,
    settings: UtilitySettings,
    key: tuple[int, int],
    device: torch.device,
) -> tuple[nn.Module, float]:
    """Train a network; return it with the weights of the lowest validation loss, and that loss.

    Args:
        network: name of the network in ``NETWORKS``.
        recipe: what to train on. Its prevalence is taken out of the logits before the validation
            images, of which both classes weigh the same, judge them.
        validation: real images of other patients, of both classes.
        settings: the training schedule.
        key: index of the network and number of the repeat, for the random streams.
        device: the device to train on.

    Raises:
        UserError: if the training diverges.
    """
    # Set up the network, the random streams and the optimizer.
    size = recipe.parts[0][0].images.shape[-1]
    model = _new_network(network, size, settings.seed, key).to(device)
    draw = torch_stream(CPU, Stream.UTILITY_BATCHES, settings.seed, *key)
    augmentation_draw = torch_stream(CPU, Stream.UTILITY_AUGMENTATION, settings.seed, *key)
    adam = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )

    # Train, and keep the weights of the lowest validation loss.
    best, state = math.inf, model.state_dict()
    every = -(-settings.training_steps // VALIDATIONS)
    for step in range(1, settings.training_steps + 1):
        model.train()
        rows = [
            torch.randint(len(part), (count,), generator=draw).numpy()
            for part, count in recipe.parts
        ]
        batch = np.concatenate(
            [part.images[drawn] for (part, _), drawn in zip(recipe.parts, rows, strict=True)]
        )
        labels = np.concatenate(
            [part.is_pneumonia[drawn] for (part, _), drawn in zip(recipe.parts, rows, strict=True)]
        )
        y = torch.from_numpy(labels).float().to(device)
        x = to_unit_range(torch.from_numpy(batch)).to(device)
        if recipe.augmented:
            x = augment(x, torch.rand((len(x), 6), generator=augmentation_draw).to(device))
        if recipe.weights is None:
            loss = F.binary_cross_entropy_with_logits(model(x), y)
        else:
            normal, pneumonia = recipe.weights
            weight = torch.where(y > 0, pneumonia, normal)
            loss = F.binary_cross_entropy_with_logits(model(x), y, weight)
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step % every == 0 or step == settings.training_steps:
            logits = predict_logits(model, validation.images, device)
            loss_now = balanced_loss(
                validation.is_pneumonia, without_prior(logits, recipe.prevalence)
            )
            if loss_now < best:
                best = loss_now
                state = {name: value.clone() for name, value in model.state_dict().items()}
    if not math.isfinite(best):
        raise UserError(f"utility.learning_rate: with it {network} diverges; lower it")
    model.load_state_dict(state)
    return model, best


def without_prior(logits: Logits, prevalence: float) -> Logits:
    """Shift logits of a training with a ``prevalence`` of PNEUMONIA to one of a half.

    A logit is the log odds of the training's prevalence plus the log likelihood ratio (Saerens et
    al., 2002).
    """
    return logits - math.log(prevalence / (1 - prevalence))


@torch.no_grad()
def predict_logits(model: nn.Module, images: NDArray[np.uint8], device: torch.device) -> Logits:
    """Predict the logits of uint8 images (n, size, size), positive for pneumonia, (n,)."""
    model.eval()
    parts = [
        model(to_unit_range(torch.from_numpy(images[start : start + PREDICTION_BATCH])).to(device))
        for start in range(0, len(images), PREDICTION_BATCH)
    ]
    return torch.cat(parts).double().cpu().numpy()


def balanced_loss(is_pneumonia: NDArray[np.bool_], logits: Logits) -> float:
    """Compute the class-balanced mean cross-entropy; infinite if a logit is not finite."""
    if not np.isfinite(logits).all():
        return math.inf
    losses = np.logaddexp(0, np.where(is_pneumonia, -logits, logits))
    return float((losses[is_pneumonia].mean() + losses[~is_pneumonia].mean()) / 2)


def augment(images: Tensor, chance: Tensor) -> Tensor:
    """Apply classical augmentation: rotate, translate, scale, and change the exposure.

    Args:
        images: (n, 1, size, size) in [-1, 1].
        chance: uniform random numbers on [0, 1), (n, 6).
    """
    angle, right, down, size, light, contrast = (2 * chance - 1).unbind(1)
    scale = 1 + SCALE * size
    cosine, sine = torch.cos(ROTATION * angle) * scale, torch.sin(ROTATION * angle) * scale
    move = TRANSLATION * right, TRANSLATION * down
    affine = torch.stack([cosine, -sine, move[0], sine, cosine, move[1]], 1).view(-1, 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    gain = 1 + EXPOSURE * contrast.view(-1, 1, 1, 1)
    return moved * gain + EXPOSURE * light.view(-1, 1, 1, 1)


def _new_network(name: str, size: int, seed: int, key: tuple[int, int]) -> nn.Module:
    """Return an untrained network."""
    random = torch_stream(CPU, Stream.UTILITY_WEIGHTS, seed, *key)
    return initialize_for_relu(NETWORKS[name](size), random)
