"""The thesis's training: three updates a batch, each with binary cross-entropy and Adam.

1. the discriminator on real images, target 1;
2. the discriminator on generated images, target 0;
3. the generator through the frozen discriminator, target 1 (the non-saturating loss of
   Goodfellow et al., 2014, section 3).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from src.compute import Compute, random_stream
from src.errors import UserError
from src.models.layers import Dropout
from src.models.networks import Discriminator, Generator, new_discriminator, new_generator
from src.settings.train import AdamSettings, TrainSettings

Network = Callable[[Tensor], Tensor]

# Streams of randomness, told apart by the second number of their keys.
WEIGHTS, SHUFFLE, NOISE, DROPOUT, SAMPLES = range(5)


@dataclass(frozen=True)
class EpochLosses:
    """Means over an epoch's batches: generator, discriminator on fake and on real images."""

    epoch: int
    g: float
    d1: float
    d2: float


@dataclass
class Observer:
    """What to do as the training goes on; by default nothing."""

    on_step: Callable[[int], None] = field(default=lambda images: None)  # images of the batch
    on_epoch: Callable[[EpochLosses], None] = field(default=lambda losses: None)
    on_samples: Callable[[int, NDArray[np.uint8]], None] = field(
        default=lambda epoch, images: None
    )  # epoch, uint8 (rows * columns, size, size)


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves."""

    generator: Generator
    discriminator: Discriminator
    history: list[EpochLosses]


def train(
    images: NDArray[np.uint8], settings: TrainSettings, compute: Compute, observer: Observer
) -> TrainResult:
    """Train one class's pair of networks.

    Args:
        images: real images, uint8 of shape (n, size, size).
        settings: networks and schedule.
        compute: what to train on.
        observer: told of steps, epochs and sample grids.

    Raises:
        UserError: if a batch is larger than the set.
    """
    batches = steps_per_epoch(len(images), settings.batch)
    device = compute.device
    trainer = Trainer(settings, images.shape[-1], compute)
    real = torch.from_numpy(images).to(device)
    shuffle = random_stream(torch.device("cpu"), settings.seed, SHUFFLE)
    shown = sample_noise(settings, device)
    history = []
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(len(images), generator=shuffle)[: batches * settings.batch]
        total = torch.zeros(3, dtype=torch.float64, device=device)
        for chosen in order.to(device).split(settings.batch):
            total += trainer.step(to_unit_range(real[chosen]))
            observer.on_step(settings.batch)
        g, d1, d2 = (total / batches).tolist()
        history.append(EpochLosses(epoch, g, d1, d2))
        observer.on_epoch(history[-1])
        if epoch in settings.samples.epochs or epoch == settings.epochs:
            observer.on_samples(epoch, generate(trainer.generator, shown))
    return TrainResult(trainer.generator, trainer.discriminator, history)


def steps_per_epoch(images: int, batch: int) -> int:
    """Batches in an epoch; the remainder is dropped, as in the thesis.

    Raises:
        UserError: if not even one batch fits.
    """
    if batch > images:
        raise UserError(f"batch: {batch} is more than the {images} images of the train split")
    return images // batch


class Trainer:
    """Both networks, their optimizers and their sources of randomness."""

    def __init__(self, settings: TrainSettings, image_size: int, compute: Compute) -> None:
        weights = random_stream(torch.device("cpu"), settings.seed, WEIGHTS)
        self.generator = new_generator(settings.generator, image_size, weights)
        self.discriminator = new_discriminator(settings.discriminator, image_size, weights)
        compute.place(self.generator)
        compute.place(self.discriminator)
        self._compute = compute
        # What runs; compiled, a network shares its parameters with the one that is kept.
        self._g: Network = torch.compile(self.generator) if compute.compile else self.generator
        self._d: Network = (
            torch.compile(self.discriminator) if compute.compile else self.discriminator
        )
        device = compute.device
        dropout = random_stream(device, settings.seed, DROPOUT)
        for module in self.discriminator.modules():
            if isinstance(module, Dropout):
                module.random = dropout
        self._noise = random_stream(device, settings.seed, NOISE)
        self._latent = settings.generator.latent
        self._adam_g = _adam(self.generator, settings.optimizer.generator)
        self._adam_d = _adam(self.discriminator, settings.optimizer.discriminator)

    def step(self, real: Tensor) -> Tensor:
        """The three updates on one batch of real images, (n, 1, size, size) in [-1, 1].

        Returns:
            the losses g, d1 (on fake) and d2 (on real), float32 of shape (3,), on the device.
        """
        with self._compute.autocast():
            return self._step(real)

    def _step(self, real: Tensor) -> Tensor:
        """The three updates, at the chosen precision."""
        count = len(real)
        real = real.contiguous(memory_format=torch.channels_last)
        on_real = self._update_discriminator(real, 1.0)
        with torch.no_grad():
            fake = self._g(self._draw(count))
        on_fake = self._update_discriminator(fake, 0.0)
        # Frozen, the discriminator passes the gradient on without computing its own.
        self.discriminator.requires_grad_(False)
        loss = _cross_entropy(self._d(self._g(self._draw(count))), 1.0)
        self._adam_g.zero_grad()
        loss.backward()
        self._adam_g.step()
        self.discriminator.requires_grad_(True)
        return torch.stack([loss.detach(), on_fake, on_real])

    def _update_discriminator(self, images: Tensor, target: float) -> Tensor:
        """One update towards ``target``; its loss."""
        loss = _cross_entropy(self._d(images), target)
        self._adam_d.zero_grad()
        loss.backward()
        self._adam_d.step()
        return loss.detach()

    def _draw(self, count: int) -> Tensor:
        """Latent noise, N(0, 1) of shape (count, latent)."""
        return torch.randn(count, self._latent, generator=self._noise, device=self._compute.device)


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 (n, size, size) to float32 (n, 1, size, size) in [-1, 1], the range of tanh."""
    return images.unsqueeze(1).float().div_(127.5).sub_(1)


def to_bytes(images: Tensor) -> Tensor:
    """float (n, 1, size, size) in [-1, 1] to uint8 (n, size, size), rounded."""
    return images.squeeze(1).add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)


def sample_noise(settings: TrainSettings, device: torch.device) -> Tensor:
    """The fixed noise of the sample grids, (rows * columns, latent)."""
    count = settings.samples.rows * settings.samples.columns
    stream = random_stream(torch.device("cpu"), settings.seed, SAMPLES)
    return torch.randn(count, settings.generator.latent, generator=stream).to(device)


def generate(generator: Generator, noise: Tensor, batch: int = 100) -> NDArray[np.uint8]:
    """Images from noise (n, latent), as uint8 of shape (n, size, size).

    Batches are of one fixed size, the last one padded, so that an image's bytes do not depend on
    how many are drawn together.
    """
    return np.concatenate(list(_generate_batches(generator, noise, batch)))


@torch.no_grad()
def _generate_batches(
    generator: Generator, noise: Tensor, batch: int
) -> Iterator[NDArray[np.uint8]]:
    was_training = generator.training
    generator.eval()
    for part in noise.split(batch):
        padded = F.pad(part, (0, 0, 0, batch - len(part)))
        yield to_bytes(generator(padded)[: len(part)]).cpu().numpy()
    generator.train(was_training)


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    """Mean binary cross-entropy of sigmoid(logits) against one target, in float32 or more."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _adam(network: torch.nn.Module, settings: AdamSettings) -> torch.optim.Adam:
    """Adam (Kingma and Ba, 2015), in torch's fused form."""
    return torch.optim.Adam(
        network.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )
