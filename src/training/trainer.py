"""One step of the training: what a batch of real images does to both networks.

As in the thesis, for every batch:

1. the discriminator learns from the real images;
2. the discriminator learns from generated images, apart from the first or together with it;
3. the generator learns through the frozen discriminator.

With binary cross-entropy, updates apart and Adam these are the thesis's three updates.
"""

from typing import Any

import torch
from torch import Tensor

from ..common.devices import Compute
from ..common.rng import Stream, torch_stream
from ..config.train import OptimizerSettings, TrainSettings
from ..models.layers import Dropout, initialize
from ..models.networks import Discriminator, Generator
from .augmentation import augment, numbers_for
from .collapse import TOLD_APART, Watch, all_finite, signs_of_collapse
from .cuda_graph import WARM_UP, RecordedStep, Step
from .distributed import ALONE, Group
from .ema import Average
from .losses import LOSSES, Network, gradient_penalty
from .optimizers import OPTIMIZERS

CPU = torch.device("cpu")


class Trainer:
    """Both networks, their optimizers and their sources of randomness."""

    def __init__(
        self,
        settings: TrainSettings,
        image_size: int,
        compute: Compute,
        group: Group = ALONE,
    ) -> None:
        weights = torch_stream(CPU, Stream.TRAIN_WEIGHTS, settings.seed)
        start = settings.initialization
        self.generator = initialize(Generator(settings.generator, image_size), start, weights)
        self.discriminator = initialize(
            Discriminator(settings.discriminator, image_size), start, weights
        )
        compute.place(self.generator)
        compute.place(self.discriminator)
        group.check_networks((self.generator, self.discriminator))
        self._settings, self._compute, self._group = settings, compute, group
        self._loss = LOSSES[settings.loss]
        self.watch = Watch(compute.device)
        # What runs; compiled, a network shares its parameters with the one that is kept.
        self._g: Network = torch.compile(self.generator) if compute.compile else self.generator
        self._d: Network = (
            torch.compile(self.discriminator) if compute.compile else self.discriminator
        )
        device = compute.device
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
                module.random, module.part = self._streams["dropout"], (group.rank, group.size)
        self._optimizer_g = _optimizer(self.generator, settings.optimizer.generator, device)
        self._optimizer_d = _optimizer(self.discriminator, settings.optimizer.discriminator, device)
        self._seen = 0  # images of the whole group
        self._average = Average(self.generator, settings.ema_decay) if settings.ema_decay else None
        self._updates = self._make_updates()

    @property
    def warm_up(self) -> int:
        """Steps before those that are as fast as all later ones."""
        return WARM_UP + 1 if isinstance(self._updates, RecordedStep) else 1

    @property
    def drawing(self) -> Generator:
        """The generator that images are drawn from: the average of the trained one, if there is."""
        if self._average is None:
            return self.generator
        network = self._average.network
        assert isinstance(network, Generator)
        return network

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on: weights, optimizers and states of random streams."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        streams = {name: stream.get_state() for name, stream in self._streams.items()}
        return {**parts, **streams, "seen": self._seen}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` was taken."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for name, stream in self._streams.items():
            stream.set_state(state[name])
        for optimizer in (self._optimizer_g, self._optimizer_d):
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):  # the only state that torch leaves where it was
                    group["lr"] = group["lr"].to(self._compute.device)
        self._seen = state["seen"]
        self._updates = self._make_updates()  # a recorded step knows the old states' places

    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all_finite((self.generator, self.discriminator))

    def _parts(self) -> dict[str, torch.nn.Module | torch.optim.Optimizer | Watch | Average]:
        parts: dict[str, torch.nn.Module | torch.optim.Optimizer | Watch | Average] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "optimizer_g": self._optimizer_g,
            "optimizer_d": self._optimizer_d,
            "watch": self.watch,
        }
        return parts if self._average is None else parts | {"average": self._average}

    def step(self, real: Tensor) -> Tensor:
        """The updates on one batch of real images, (n, 1, size, size) in [-1, 1].

        In a group ``real`` is this process's share of the batch, as large as everyone's.

        Returns:
            the batch's losses g, d1 (on fake) and d2 (on real), (3,), on the device; penalties are
            not in them.
        """
        self._set_learning_rates()
        losses, signs = self._updates(real)
        if self._average is not None:
            self._average.update(self.generator)
        self._seen += len(real) * self._group.size
        count = len(losses)
        found = self._group.mean(torch.cat([losses.double(), signs]))
        self.watch.count(found[count:])
        return found[:count].to(losses.dtype)

    def _set_learning_rates(self) -> None:
        """Let them fall by half with every half-life.

        So they depend on the images seen alone, and a longer training goes on as it would have.
        """
        chosen = self._settings.optimizer
        share = (
            0.5 ** (self._seen / chosen.learning_rate_half_life)
            if chosen.learning_rate_half_life
            else 1.0
        )
        for optimizer, settings in (
            (self._optimizer_g, chosen.generator),
            (self._optimizer_d, chosen.discriminator),
        ):
            rate = settings.learning_rate * share
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def _make_updates(self) -> Step:
        """The updates as they run: recorded on a GPU, unless processes have to speak in between."""
        if self._compute.records and self._group.size == 1:
            return RecordedStep(self._step, self._streams.values())
        return self._step

    def _step(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """The updates, at the chosen precision; losses and signs of collapse."""
        with self._compute.autocast():
            return self._update_both(real)

    def _update_both(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """The updates of both networks; losses, (3,), and signs of collapse."""
        real = real.contiguous(memory_format=torch.channels_last)
        if self._settings.discriminator_updates == "apart":
            d2, on_real = self._judge_real(real)
            self._update_discriminator(d2 + self._penalty(real, real))
            fake = self._draw(len(real))
            d1, on_fake = self._judge_fake(fake)
            self._update_discriminator(d1)
        else:
            fake = self._draw(len(real))
            d2, on_real = self._judge_real(real)
            d1, on_fake = self._judge_fake(fake)
            self._update_discriminator(d1 + d2 + self._penalty(real, fake))
        # Frozen, the discriminator passes the gradient on without computing its own.
        self.discriminator.requires_grad_(False)
        g = self._loss.for_generator(self._judge(self._g(self._noise(len(real)))))
        self._update(self._optimizer_g, self.generator, g)
        self.discriminator.requires_grad_(True)
        losses = torch.stack([loss.detach() for loss in (g, d1, d2)])
        signs = signs_of_collapse(on_real.detach(), on_fake.detach(), fake)
        if not self._loss.parts_at_zero:
            signs[TOLD_APART].zero_()
        return losses, signs

    def _judge_real(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's loss on real images, and its logits, (n,)."""
        logits = self._judge(real)
        return self._loss.on_real(logits, 1 - self._settings.label_smoothing), logits

    def _judge_fake(self, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's loss on generated images, and its logits, (n,)."""
        logits = self._judge(fake)
        return self._loss.on_fake(logits), logits

    def _judge(self, images: Tensor) -> Tensor:
        """The discriminator's logits for images that are augmented first, (n,), float32 or more."""
        names = self._settings.augmentation
        if names:
            chance = self._uniform("augmentation", len(images), numbers_for(names))
            images = augment(images, names, chance)
            images = images.contiguous(memory_format=torch.channels_last)
        logits = self._d(images)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted gradient penalty, a scalar; 0 without one."""
        weight = self._settings.gradient_penalty
        if not weight:
            return real.new_zeros(())
        between = self._uniform("penalty", len(real), 1).squeeze(1)
        # In float32, since gradients of gradients lose too much in bfloat16, and by the network
        # that was not compiled, since a compiled one has none.
        network = self.discriminator
        with torch.autocast(real.device.type, enabled=False):
            return weight * gradient_penalty(self._loss, network, real, fake.float(), between)

    def _update_discriminator(self, loss: Tensor) -> None:
        self._update(self._optimizer_d, self.discriminator, loss)

    def _update(
        self, optimizer: torch.optim.Optimizer, network: torch.nn.Module, loss: Tensor
    ) -> None:
        """One step of ``network`` down the gradient of ``loss``."""
        optimizer.zero_grad()
        loss.backward()
        self._group.average_gradients(network)
        optimizer.step()
        # Else the network would be used again with its bfloat16 weights of before the update.
        torch.clear_autocast_cache()

    @torch.no_grad()
    def _draw(self, count: int) -> Tensor:
        """Generated images without a gradient, (count, 1, size, size)."""
        return self._g(self._noise(count))

    def _noise(self, count: int) -> Tensor:
        """This process's latent noise, N(0, 1) of shape (count, latent)."""
        shape = (count * self._group.size, self._settings.generator.latent_dim)
        noise = torch.randn(shape, generator=self._streams["noise"], device=self._compute.device)
        return noise[self._group.rows(count)]

    def _uniform(self, stream: str, count: int, width: int) -> Tensor:
        """This process's numbers of a stream, uniform on [0, 1), (count, width)."""
        shape = (count * self._group.size, width)
        numbers = torch.rand(shape, generator=self._streams[stream], device=self._compute.device)
        return numbers[self._group.rows(count)]


def _optimizer(
    network: torch.nn.Module, settings: OptimizerSettings, device: torch.device
) -> torch.optim.Optimizer:
    """The optimizer of a network that the parameters name."""
    make = OPTIMIZERS[settings.name]
    on_gpu = device.type == "cuda"
    rate = torch.tensor(settings.learning_rate, device=device) if on_gpu else settings.learning_rate
    return make(
        network.parameters(), rate, settings.beta1, settings.beta2, settings.epsilon, on_gpu
    )
