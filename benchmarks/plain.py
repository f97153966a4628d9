"""The baseline: the training loop that anyone would write from the thesis and the papers.

Default memory layout, float32, ordinary optimizers, sigmoid and binary cross-entropy or the hinge,
enlarged maps and torch's own normalisations, no freezing.
"""

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from src.config.train import DiscriminatorSettings, GeneratorSettings, TrainSettings
from src.training.augmentation import augment, numbers_for


class PlainGenerator(nn.Module):
    """The generator; kernels and strides must allow symmetric padding."""

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
        self.slope = settings.negative_slope

    def forward(self, z: Tensor) -> Tensor:
        """(n, latent) to (n, 1, size, size) in [-1, 1]."""
        first, *others = self.normalizations
        x = F.leaky_relu(first(self.dense(z).view(-1, *self.base)), self.slope)
        for layer, normalization in zip(self.upsampling, others, strict=True):
            x = F.leaky_relu(normalization(layer(x)), self.slope)
        return torch.tanh(self.output(x))


class PlainDiscriminator(nn.Module):
    """The discriminator, to a logit."""

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
        self.slope = settings.negative_slope
        if settings.normalization == "spectral":
            for layer in self.convolutions:
                parametrizations.spectral_norm(layer)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, size, size) to (n,) logits."""
        x = images
        for layer, padding in zip(self.convolutions, self.padding, strict=True):
            x = F.leaky_relu(layer(F.pad(x, padding)), self.slope)
        return self.dense(self.dropout(x.flatten(1))).squeeze(1)


class PlainTrainer:
    """The updates."""

    def __init__(self, settings: TrainSettings, generator: nn.Module, critic: nn.Module) -> None:
        known = settings.loss in ("bce", "hinge") and not settings.gradient_penalty
        if not known or settings.discriminator.normalization == "batch":
            raise ValueError("the plain loop does not know these choices")
        self.settings = settings
        self.generator, self.discriminator = generator, critic
        self.average = copy.deepcopy(generator)
        self.latent = settings.generator.latent_dim
        self.device = next(generator.parameters()).device
        self.random = torch.Generator(self.device).manual_seed(settings.seed)
        g, d = settings.optimizer.generator, settings.optimizer.discriminator
        self.adam_g = torch.optim.Adam(
            generator.parameters(), g.learning_rate, (g.beta1, g.beta2), g.epsilon
        )
        self.adam_d = torch.optim.Adam(
            critic.parameters(), d.learning_rate, (d.beta1, d.beta2), d.epsilon
        )

    def step(self, real: Tensor) -> Tensor:
        """One batch of real images, (n, 1, size, size) in [-1, 1]; the losses g, d1, d2."""
        if self.settings.discriminator_updates == "apart":
            on_real = self._loss(real, real=True)
            self._update(self.adam_d, on_real)
            fake = self.generator(self._draw(len(real))).detach()
            on_fake = self._loss(fake, real=False)
            self._update(self.adam_d, on_fake)
        else:
            fake = self.generator(self._draw(len(real))).detach()
            on_real, on_fake = self._loss(real, real=True), self._loss(fake, real=False)
            self._update(self.adam_d, on_real + on_fake)
        fake = self.generator(self._draw(len(real)))
        g = -self._judge(fake).mean() if self._hinge() else self._loss(fake, real=True)
        self._update(self.adam_g, g)
        if self.settings.ema_decay:
            with torch.no_grad():
                for mine, other in zip(
                    self.average.parameters(), self.generator.parameters(), strict=True
                ):
                    mine.mul_(self.settings.ema_decay).add_(
                        other, alpha=1 - self.settings.ema_decay
                    )
        return torch.stack([g, on_fake, on_real]).detach()

    def _hinge(self) -> bool:
        return self.settings.loss == "hinge"

    def _judge(self, images: Tensor) -> Tensor:
        names = self.settings.augmentation
        if names:
            images = augment(images, names, self._uniform(len(images), numbers_for(names)))
        logits: Tensor = self.discriminator(images)
        return logits

    def _loss(self, images: Tensor, *, real: bool) -> Tensor:
        logits = self._judge(images)
        if self._hinge():
            return F.relu(1 - logits if real else 1 + logits).mean()
        return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, float(real)))

    def _update(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        self.adam_g.zero_grad()
        self.adam_d.zero_grad()
        loss.backward()
        adam.step()

    def _draw(self, count: int) -> Tensor:
        return torch.randn(count, self.latent, generator=self.random, device=self.device)

    def _uniform(self, count: int, numbers: int) -> Tensor:
        return torch.rand(count, numbers, device=self.device)
