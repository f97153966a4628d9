"""One step of the training: the updates of both networks on a batch of real images.

As in the thesis, for every batch:

1. the discriminator learns from the real images;
2. the discriminator learns from generated images, in an update of its own or in that of step 1;
3. the generator learns through the frozen discriminator.

With binary cross-entropy, updates apart and Adam these are the thesis's three updates.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..common.devices import Compute
from ..common.rng import Stream, torch_stream
from ..config.registry import LOSSES, OPTIMIZERS, load
from ..config.train import OptimizerSettings, TrainSettings
from ..models.architectures import load_architecture
from ..models.initialization import initialize
from ..models.layers import Dropout
from ..models.networks import Generator
from .augmentation import augment, count_draws
from .collapse import SEPARATED, CollapseMonitor, all_finite, collapse_signs
from .cuda_graph import WARMUP_STEPS, GraphedStep, Step
from .distributed import SINGLE_PROCESS, ProcessGroup
from .ema import EMA
from .losses import Loss, Network, gradient_penalty

CPU = torch.device("cpu")


class Trainer:
    """Both networks, their optimizers and their sources of randomness."""

    def __init__(
        self,
        settings: TrainSettings,
        image_size: int,
        compute: Compute,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        """Build and initialise both networks on the device.

        Args:
            settings: networks, losses and optimizers.
            image_size: pixels a side.
            compute: device, precision and memory format.
            group: the processes that train together.

        Raises:
            UserError: if several processes cannot train these networks together.
        """
        self._settings, self._compute, self._group = settings, compute, group
        device = compute.device
        # The networks; compiled ones share their parameters.
        weights = torch_stream(CPU, Stream.TRAIN_WEIGHTS, settings.seed)
        classes = load_architecture(settings.architecture)
        self.generator = classes.generator(settings.generator, image_size)
        self.discriminator = classes.discriminator(settings.discriminator, image_size)
        for network in (self.generator, self.discriminator):
            compute.place(initialize(network, settings.initialization, weights))
        group.check_networks((self.generator, self.discriminator))
        self._g: Network = torch.compile(self.generator) if compute.compile else self.generator
        self._d: Network = (
            torch.compile(self.discriminator) if compute.compile else self.discriminator
        )
        # Their sources of randomness.
        self._streams = {
            name: torch_stream(device, stream, settings.seed)
            for name, stream in (
                ("noise", Stream.TRAIN_NOISE),
                ("dropout", Stream.TRAIN_DROPOUT),
                ("augmentation", Stream.TRAIN_AUGMENTATION),
                ("penalty", Stream.TRAIN_PENALTY),
            )
        }
        for module in self.discriminator.modules():
            if isinstance(module, Dropout):
                module.rng, module.batch_part = self._streams["dropout"], (group.rank, group.size)
        # What changes them, and what observes them.
        self._loss: Loss = load(LOSSES[settings.loss])
        self._optimizer_g = _optimizer(self.generator, settings.optimizer.generator, device)
        self._optimizer_d = _optimizer(self.discriminator, settings.optimizer.discriminator, device)
        self._ema = EMA(self.generator, settings.ema_decay) if settings.ema_decay else None
        self.collapse_monitor = CollapseMonitor(device)
        self._images_seen = 0  # by the whole group
        self._run_updates = self._make_step()

    @property
    def warmup_steps(self) -> int:
        """Number of first steps that are slower than all later ones."""
        return WARMUP_STEPS + 1 if isinstance(self._run_updates, GraphedStep) else 1

    @property
    def sampling_generator(self) -> Generator:
        """The generator to draw images from: the averaged one, if there is an average."""
        return self.generator if self._ema is None else self._ema.network

    def fit(self, images: NDArray[np.uint8]) -> None:
        """Let the generator take from the train images what it does not learn."""
        for network in {self.generator, self.sampling_generator}:
            network.fit(images)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next steps depend on: weights, optimizers and random streams."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        streams = {name: stream.get_state() for name, stream in self._streams.items()}
        return {**parts, **streams, "images_seen": self._images_seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for name, stream in self._streams.items():
            stream.set_state(state[name])
        for optimizer in (self._optimizer_g, self._optimizer_d):
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):  # the only state that torch does not move
                    group["lr"] = group["lr"].to(self._compute.device)
        self._images_seen = state["images_seen"]
        self._run_updates = self._make_step()  # a captured step refers to the old states

    def all_finite(self) -> bool:
        """Check that every weight of both networks is a finite number."""
        return all_finite((self.generator, self.discriminator))

    def _parts(self) -> dict[str, Any]:
        """Return what has a state of its own, by its key in a checkpoint."""
        parts = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "optimizer_g": self._optimizer_g,
            "optimizer_d": self._optimizer_d,
            "collapse_monitor": self.collapse_monitor,
        }
        return parts if self._ema is None else parts | {"ema": self._ema}

    def step(self, real: Tensor) -> Tensor:
        """Update both networks on one batch of real images.

        Args:
            real: (n, 1, size, size) in [-1, 1]; in a group this process's part of the batch, as
                large as everyone's.

        Returns:
            the losses of the generator, and of the discriminator on generated and on real images,
            (3,), on the device; without penalties.
        """
        self._set_learning_rates()
        losses, signs = self._run_updates(real)
        if self._ema is not None:
            self._ema.update(self.generator)
        self._images_seen += len(real) * self._group.size
        # One message between the processes for both.
        means = self._group.mean(torch.cat([losses.double(), signs]))
        self.collapse_monitor.update(means[len(losses) :])
        return means[: len(losses)].to(losses.dtype)

    def _set_learning_rates(self) -> None:
        """Set the learning rates, which halve with every half-life of images seen.

        They depend on the images seen alone, so a longer training goes on as it would have.
        """
        optimizer = self._settings.optimizer
        half_life = optimizer.learning_rate_half_life
        factor = 0.5 ** (self._images_seen / half_life) if half_life else 1.0
        for torch_optimizer, settings in (
            (self._optimizer_g, optimizer.generator),
            (self._optimizer_d, optimizer.discriminator),
        ):
            rate = settings.learning_rate * factor
            for group in torch_optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def _make_step(self) -> Step:
        """Return the updates as they run: as a CUDA graph, unless processes exchange gradients."""
        if self._compute.records and self._group.size == 1:
            return GraphedStep(self._update_in_precision, self._streams.values())
        return self._update_in_precision

    def _update_in_precision(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Update both networks in the chosen precision; return losses and signs of collapse."""
        with self._compute.autocast():
            return self._update_networks(real)

    def _update_networks(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Update both networks; return the losses, (3,), and the signs of collapse, (3,)."""
        real = real.contiguous(memory_format=torch.channels_last)
        # Update the discriminator.
        if self._settings.discriminator_updates == "apart":
            real_logits = self._logits(real)
            loss_d_real = self._loss_on_real(real_logits)
            self._update_discriminator(loss_d_real + self._penalty(real, real))
            fake = self._generate(len(real))
            fake_logits = self._logits(fake)
            loss_d_fake = self._loss.on_fake(fake_logits)
            self._update_discriminator(loss_d_fake)
        else:
            fake = self._generate(len(real))
            real_logits, fake_logits = self._logits(real), self._logits(fake)
            loss_d_real = self._loss_on_real(self._relative(real_logits, fake_logits))
            loss_d_fake = self._loss.on_fake(self._relative(fake_logits, real_logits))
            self._update_discriminator(loss_d_fake + loss_d_real + self._penalty(real, fake))
        # Update the generator. Frozen, the discriminator passes the gradient on without its own.
        self.discriminator.requires_grad_(False)
        logits = self._logits(self._g(self._noise(len(real))))
        # The real images' logits of before the discriminator's update spare another pass.
        loss_g = self._loss.for_generator(self._relative(logits, real_logits.detach()))
        self._update(self._optimizer_g, self.generator, loss_g)
        self.discriminator.requires_grad_(True)
        # Look for collapse.
        losses = torch.stack([loss.detach() for loss in (loss_g, loss_d_fake, loss_d_real)])
        signs = collapse_signs(real_logits.detach(), fake_logits.detach(), fake)
        if not self._loss.classifies:
            signs[SEPARATED].zero_()
        return losses, signs

    def _loss_on_real(self, logits: Tensor) -> Tensor:
        """Compute the discriminator's loss on real images by their logits, (n,)."""
        return self._loss.on_real(logits, 1 - self._settings.label_smoothing)

    def _relative(self, logits: Tensor, opposite: Tensor) -> Tensor:
        """Subtract the logits of the images of the other kind, (n,), if the loss compares pairs."""
        return logits - opposite if self._loss.compares_pairs else logits

    def _logits(self, images: Tensor) -> Tensor:
        """Compute the discriminator's logits of augmented images, (n,), in float32 or more."""
        names = self._settings.augmentation
        if names:
            uniform = self._uniform("augmentation", len(images), count_draws(names))
            images = augment(images, names, uniform, self._settings.augmentation_strength)
            images = images.contiguous(memory_format=torch.channels_last)
        logits = self._d(images)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compute the weighted gradient penalty, a scalar; 0 without one."""
        weight = self._settings.gradient_penalty
        if not weight:
            return real.new_zeros(())
        uniform = self._uniform("penalty", len(real), 1).squeeze(1)
        # In float32, since gradients of gradients lose too much in bfloat16, and by the network
        # that was not compiled, since a compiled one has none.
        network = self.discriminator
        with torch.autocast(real.device.type, enabled=False):
            return weight * gradient_penalty(self._loss, network, real, fake.float(), uniform)

    def _update_discriminator(self, loss: Tensor) -> None:
        """Do one optimizer step of the discriminator."""
        self._update(self._optimizer_d, self.discriminator, loss)

    def _update(
        self, optimizer: torch.optim.Optimizer, network: torch.nn.Module, loss: Tensor
    ) -> None:
        """Do one optimizer step of ``network`` down the gradient of ``loss``."""
        optimizer.zero_grad()
        loss.backward()
        self._group.average_gradients(network)
        optimizer.step()
        # Else the network would be used again with its bfloat16 weights of before the update.
        torch.clear_autocast_cache()

    @torch.no_grad()
    def _generate(self, count: int) -> Tensor:
        """Generate images without a gradient, (count, 1, size, size) in [-1, 1]."""
        return self._g(self._noise(count))

    def _noise(self, count: int) -> Tensor:
        """Draw this process's latent noise, N(0, 1) of shape (count, noise_width)."""
        shape = (count * self._group.size, self._settings.generator.noise_width)
        noise = torch.randn(shape, generator=self._streams["noise"], device=self._compute.device)
        return noise[self._group.local_part(count)]

    def _uniform(self, stream: str, count: int, draws: int) -> Tensor:
        """Draw this process's numbers of a stream, uniform on [0, 1), (count, draws)."""
        shape = (count * self._group.size, draws)
        numbers = torch.rand(shape, generator=self._streams[stream], device=self._compute.device)
        return numbers[self._group.local_part(count)]


def _optimizer(
    network: torch.nn.Module, settings: OptimizerSettings, device: torch.device
) -> torch.optim.Optimizer:
    """Make the optimizer of a network that the parameters name."""
    make = load(OPTIMIZERS[settings.name])
    on_gpu = device.type == "cuda"
    rate = torch.tensor(settings.learning_rate, device=device) if on_gpu else settings.learning_rate
    optimizer: torch.optim.Optimizer = make(network.parameters(), rate, settings, on_gpu)
    return optimizer
