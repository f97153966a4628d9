"""The baseline: the training loop that anyone would write from the thesis.

Default memory layout, float32, sigmoid and binary cross-entropy, ordinary Adam, no freezing.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.settings.train import DiscriminatorSettings, GeneratorSettings, TrainSettings


class PlainGenerator(nn.Module):
    """The thesis's generator; kernels and strides must allow symmetric padding."""

    def __init__(self, settings: GeneratorSettings, image_size: int) -> None:
        super().__init__()
        self.base = (settings.base_channels, *2 * (settings.base_size(image_size),))
        self.dense = nn.Linear(settings.latent, torch.Size(self.base).numel())
        widths = (settings.base_channels, *settings.channels)
        shapes = zip(pairwise(widths), settings.kernels, settings.strides, strict=True)
        self.upsampling = nn.ModuleList(
            nn.ConvTranspose2d(before, after, kernel, stride, padding=(kernel - stride) // 2)
            for (before, after), kernel, stride in shapes
        )
        self.output = nn.Conv2d(
            widths[-1], 1, settings.output_kernel, padding=settings.output_kernel // 2
        )
        self.slope = settings.slope

    def forward(self, noise: Tensor) -> Tensor:
        """(n, latent) to (n, 1, size, size) in [-1, 1]."""
        x = F.leaky_relu(self.dense(noise), self.slope).view(-1, *self.base)
        for layer in self.upsampling:
            x = F.leaky_relu(layer(x), self.slope)
        return torch.tanh(self.output(x))


class PlainDiscriminator(nn.Module):
    """The thesis's discriminator, to a probability."""

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
        self.slope = settings.slope

    def forward(self, images: Tensor) -> Tensor:
        """(n, 1, size, size) to (n,) probabilities."""
        x = images
        for layer, padding in zip(self.convolutions, self.padding, strict=True):
            x = F.leaky_relu(layer(F.pad(x, padding)), self.slope)
        return torch.sigmoid(self.dense(self.dropout(x.flatten(1)))).squeeze(1)


class PlainTrainer:
    """The three updates."""

    def __init__(self, settings: TrainSettings, generator: nn.Module, critic: nn.Module) -> None:
        self.generator, self.discriminator = generator, critic
        self.latent = settings.generator.latent
        self.random = torch.Generator().manual_seed(settings.seed)
        self.loss = nn.BCELoss()
        g, d = settings.optimizer.generator, settings.optimizer.discriminator
        self.adam_g = torch.optim.Adam(
            generator.parameters(), g.learning_rate, (g.beta1, g.beta2), g.epsilon
        )
        self.adam_d = torch.optim.Adam(
            critic.parameters(), d.learning_rate, (d.beta1, d.beta2), d.epsilon
        )

    def step(self, real: Tensor) -> Tensor:
        """One batch of real images, (n, 1, size, size) in [-1, 1]; the losses g, d1, d2."""
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
        on_real = self._update(self.adam_d, self.discriminator(real), ones)
        fake = self.generator(self._draw(len(real))).detach()
        on_fake = self._update(self.adam_d, self.discriminator(fake), zeros)
        fake = self.generator(self._draw(len(real)))
        g = self._update(self.adam_g, self.discriminator(fake), ones)
        return torch.stack([g, on_fake, on_real])

    def _update(self, adam: torch.optim.Adam, output: Tensor, target: Tensor) -> Tensor:
        self.adam_g.zero_grad()
        self.adam_d.zero_grad()
        loss: Tensor = self.loss(output, target)
        loss.backward()
        adam.step()
        return loss.detach()

    def _draw(self, count: int) -> Tensor:
        return torch.randn(count, self.latent, generator=self.random)
