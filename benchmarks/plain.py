"""Baseline of the benchmarks: a training step written straight from the thesis and the papers.

Default memory layout, float32, ordinary optimizers, sigmoid with binary cross-entropy or the hinge
loss, enlarged maps, torch's own normalisations, and no freezing.
"""

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from src.config.train import DiscriminatorSettings, GeneratorSettings, TrainSettings
from src.training.augmentation import augment, count_draws


class PlainGenerator(nn.Module):
    """Generator; its kernels and strides must allow symmetric padding."""

    def __init__(self, settings: GeneratorSettings, image_size: int) -> None:
        super().__init__()
        self.base = (settings.base_channels, *2 * (settings.base_size(image_size),))
        self.dense = nn.Linear(settings.latent_dim, torch.Size(self.base).numel())
        widths = (settings.base_channels, *settings.channels)
        batch = settings.normalization == "batch"
        self.normalizations = nn.ModuleList(
            nn.BatchNorm2d(width) if batch else nn.Identity() for width in widths
        )
        self.upsampling = nn.ModuleList()
        for (before, after), kernel, stride in zip(
            pairwise(widths), settings.kernels, settings.strides, strict=True
        ):
            if settings.upsampling == "nearest":
                convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2)
                self.upsampling.append(nn.Sequential(nn.Upsample(scale_factor=stride), convolution))
            else:
                padding = (kernel - stride) // 2
                self.upsampling.append(
                    nn.ConvTranspose2d(before, after, kernel, stride, padding=padding)
                )
        self.output = nn.Conv2d(
            widths[-1], 1, settings.output_kernel, padding=settings.output_kernel // 2
        )
        self.negative_slope = settings.negative_slope

    def forward(self, z: Tensor) -> Tensor:
        """Generate (n, 1, size, size) in [-1, 1] from noise (n, latent_dim)."""
        first, *others = self.normalizations
        x = F.leaky_relu(first(self.dense(z).view(-1, *self.base)), self.negative_slope)
        for layer, normalization in zip(self.upsampling, others, strict=True):
            x = F.leaky_relu(normalization(layer(x)), self.negative_slope)
        return torch.tanh(self.output(x))


class PlainDiscriminator(nn.Module):
    """Discriminator from images to logits."""

    def __init__(
        self, settings: DiscriminatorSettings, image_size: int, dropout: nn.Module | None = None
    ) -> None:
        super().__init__()
        widths = (1, *settings.channels)
        shapes = zip(pairwise(widths), settings.kernels, settings.strides, strict=True)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel, stride) for (before, after), kernel, stride in shapes
        )
        # TensorFlow's "same" padding, for sides that the stride divides.
        extra = [max(k - s, 0) for k, s in zip(settings.kernels, settings.strides, strict=True)]
        self.padding = [2 * (total // 2, total - total // 2) for total in extra]
        self.dropout = dropout or nn.Dropout(settings.dropout)
        side = image_size
        for stride in settings.strides:
            side //= stride
        self.dense = nn.Linear(settings.channels[-1] * side * side, 1)
        self.negative_slope = settings.negative_slope
        if settings.normalization == "spectral":
            for layer in self.convolutions:
                parametrizations.spectral_norm(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (n,) of images (n, 1, size, size) in [-1, 1]."""
        x = images
        for layer, padding in zip(self.convolutions, self.padding, strict=True):
            x = F.leaky_relu(layer(F.pad(x, padding)), self.negative_slope)
        return self.dense(self.dropout(x.flatten(1))).squeeze(1)


class PlainTrainer:
    """Both networks with their optimizers, and the updates."""

    def __init__(self, settings: TrainSettings, generator: nn.Module, critic: nn.Module) -> None:
        implemented = settings.loss in ("bce", "hinge") and not settings.gradient_penalty
        if not implemented or settings.discriminator.normalization == "batch":
            raise ValueError("the plain step does not implement these settings")
        self.settings = settings
        self._is_hinge = settings.loss == "hinge"
        self.generator, self.discriminator = generator, critic
        self.ema = copy.deepcopy(generator)
        self.latent_dim = settings.generator.latent_dim
        self.device = next(generator.parameters()).device
        self.rng = torch.Generator(self.device).manual_seed(settings.seed)
        g, d = settings.optimizer.generator, settings.optimizer.discriminator
        self.adam_g = torch.optim.Adam(
            generator.parameters(), g.learning_rate, (g.beta1, g.beta2), g.epsilon
        )
        self.adam_d = torch.optim.Adam(
            critic.parameters(), d.learning_rate, (d.beta1, d.beta2), d.epsilon
        )

    def step(self, real: Tensor) -> Tensor:
        """Update both networks on real images, (n, 1, size, size) in [-1, 1].

        Returns:
            the losses of the generator, and the discriminator on generated and real images, (3,).
        """
        if self.settings.discriminator_updates == "apart":
            loss_d_real = self._loss(real, real=True)
            self._update(self.adam_d, loss_d_real)
            fake = self.generator(self._noise(len(real))).detach()
            loss_d_fake = self._loss(fake, real=False)
            self._update(self.adam_d, loss_d_fake)
        else:
            fake = self.generator(self._noise(len(real))).detach()
            loss_d_real, loss_d_fake = self._loss(real, real=True), self._loss(fake, real=False)
            self._update(self.adam_d, loss_d_real + loss_d_fake)
        fake = self.generator(self._noise(len(real)))
        loss_g = -self._logits(fake).mean() if self._is_hinge else self._loss(fake, real=True)
        self._update(self.adam_g, loss_g)
        if self.settings.ema_decay:
            with torch.no_grad():
                for mine, other in zip(
                    self.ema.parameters(), self.generator.parameters(), strict=True
                ):
                    mine.mul_(self.settings.ema_decay).add_(
                        other, alpha=1 - self.settings.ema_decay
                    )
        return torch.stack([loss_g, loss_d_fake, loss_d_real]).detach()

    def _logits(self, images: Tensor) -> Tensor:
        names = self.settings.augmentation
        if names:
            images = augment(images, names, self._uniform(len(images), count_draws(names)))
        logits: Tensor = self.discriminator(images)
        return logits

    def _loss(self, images: Tensor, *, real: bool) -> Tensor:
        logits = self._logits(images)
        if self._is_hinge:
            return F.relu(1 - logits if real else 1 + logits).mean()
        return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, float(real)))

    def _update(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        self.adam_g.zero_grad()
        self.adam_d.zero_grad()
        loss.backward()
        adam.step()

    def _noise(self, count: int) -> Tensor:
        return torch.randn(count, self.latent_dim, generator=self.rng, device=self.device)

    def _uniform(self, count: int, draws: int) -> Tensor:
        return torch.rand(count, draws, device=self.device)
