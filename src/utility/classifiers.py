"""Classifiers that tell the classes apart, and the one recipe that all of them are trained by.

LeNet-5 (LeCun et al., 1998) is the plain one, which the thesis explains; a small residual network
(He et al., 2016) is the one of today.
"""

import math
from collections.abc import Callable, Sequence

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
CHECKS = 10  # times that a training is held against the validation images
ROTATION, TRANSLATION, SCALE = math.radians(10), 0.1, 0.1  # at most; of the half side, and of 1
EXPOSURE = 0.2  # at most, of half the range of grey values, and of 1
WEIGHT_DECAY = 0.01
BATCH_OF_JUDGING = 256
Logits = NDArray[np.float64]


class LeNet(nn.Module):
    """LeNet-5 with ReLU and largest values of pools, which its followers use, and one logit."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5, padding=2)
        self.dense1 = nn.Linear(16 * (size // 4) ** 2, 120)
        self.dense2, self.logit = nn.Linear(120, 84), nn.Linear(84, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, size, size) in [-1, 1] to (n,), positive for pneumonia."""
        for convolution in (self.conv1, self.conv2):
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        x = F.relu(self.dense2(F.relu(self.dense1(x.flatten(1)))))
        return self.logit(x).squeeze(1)


class _Residual(nn.Module):
    """Two convolutions beside a shortcut; halves the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / 2, w / 2)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResidualNetwork(nn.Module):
    """A convolution, three residual blocks, the mean over the map, one logit."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(_Residual(16, 32), _Residual(32, 64), _Residual(64, 64))
        self.logit = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, size, size) in [-1, 1] to (n,), positive for pneumonia."""
        x = F.relu(self.norm(self.stem(x)))
        return self.logit(self.blocks(x).mean((2, 3))).squeeze(1)


# Each takes the side of the images.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "LeNet-5": LeNet,
    "residual": ResidualNetwork,
}


def train_to_diagnose(
    network: str,
    sources: Sequence[ImageSet],
    validation: ImageSet,
    augment: bool,
    settings: UtilitySettings,
    key: tuple[int, int],
    device: torch.device,
) -> nn.Module:
    """Train a network; what it was when it did best on the validation images.

    Every batch has as many images of each class, and of each source.

    Args:
        network: its name.
        sources: images to learn from, each of both classes.
        validation: real images of other patients.
        augment: whether to rotate, move, scale and expose the images anew each time.
        settings: the schedule.
        key: index of the network, and number of the repeat, for the random streams.
        device: what to train on.

    Raises:
        UserError: if it diverges.
    """
    model = _new_network(network, sources[0].images.shape[-1], settings.seed, key).to(device)
    draw = torch_stream(CPU, Stream.UTILITY_BATCHES, settings.seed, *key)
    chance = torch_stream(CPU, Stream.UTILITY_AUGMENTATION, settings.seed, *key)
    groups = [part.take(part.class_indices(label)) for part in sources for label in CLASSES]
    share = max(settings.batch_size // len(groups), 1)
    y = torch.tensor([float(part.is_pneumonia[0]) for part in groups], device=device)
    y = y.repeat_interleave(share)
    adam = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    best, state = math.inf, model.state_dict()
    every = -(-settings.training_steps // CHECKS)
    for step in range(1, settings.training_steps + 1):
        model.train()
        batch = np.concatenate(
            [
                part.images[torch.randint(len(part), (share,), generator=draw).numpy()]
                for part in groups
            ]
        )
        x = to_unit_range(torch.from_numpy(batch)).to(device)
        if augment:
            x = disturb(x, torch.rand((len(x), 6), generator=chance).to(device))
        loss = F.binary_cross_entropy_with_logits(model(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step % every == 0 or step == settings.training_steps:
            found = balanced_loss(
                validation.is_pneumonia, diagnose(model, validation.images, device)
            )
            if found < best:
                best = found
                state = {name: value.clone() for name, value in model.state_dict().items()}
    if not math.isfinite(best):
        raise UserError(f"utility.learning_rate: with it {network} diverges; lower it")
    model.load_state_dict(state)
    return model


@torch.no_grad()
def diagnose(model: nn.Module, images: NDArray[np.uint8], device: torch.device) -> Logits:
    """The logits of uint8 images (n, size, size), positive for pneumonia, (n,)."""
    model.eval()
    parts = [
        model(to_unit_range(torch.from_numpy(images[start : start + BATCH_OF_JUDGING])).to(device))
        for start in range(0, len(images), BATCH_OF_JUDGING)
    ]
    return torch.cat(parts).double().cpu().numpy()


def balanced_loss(is_pneumonia: NDArray[np.bool_], logits: Logits) -> float:
    """The mean cross-entropy, both classes weighing the same; infinite of no finite logits."""
    if not np.isfinite(logits).all():
        return math.inf
    losses = np.logaddexp(0, np.where(is_pneumonia, -logits, logits))
    return float((losses[is_pneumonia].mean() + losses[~is_pneumonia].mean()) / 2)


def disturb(images: Tensor, chance: Tensor) -> Tensor:
    """Classical augmentation: turn, move, scale, brighten and flatten images a little.

    Args:
        images: (n, 1, size, size) in [-1, 1].
        chance: uniform on [0, 1), (n, 6).
    """
    angle, right, down, size, light, contrast = (2 * chance - 1).unbind(1)
    scale = 1 + SCALE * size
    cosine, sine = torch.cos(ROTATION * angle) * scale, torch.sin(ROTATION * angle) * scale
    move = TRANSLATION * right, TRANSLATION * down
    where = torch.stack([cosine, -sine, move[0], sine, cosine, move[1]], 1).view(-1, 2, 3)
    grid = F.affine_grid(where, list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    gain = 1 + EXPOSURE * contrast.view(-1, 1, 1, 1)
    return turned * gain + EXPOSURE * light.view(-1, 1, 1, 1)


def _new_network(name: str, size: int, seed: int, key: tuple[int, int]) -> nn.Module:
    """An untrained network."""
    random = torch_stream(CPU, Stream.UTILITY_WEIGHTS, seed, *key)
    return initialize_for_relu(NETWORKS[name](size), random)
