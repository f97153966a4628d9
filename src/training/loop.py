"""The training of one class: epochs of steps, checkpoints, samples, and what ends it early."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..common.devices import Compute
from ..common.errors import UserError
from ..common.logging import logger
from ..common.rng import Stream, integer_seed, torch_stream
from ..config.train import TrainSettings
from ..models.networks import Discriminator, Generator
from ..models.sampling import generate, to_unit_range
from .batches import RealImages
from .checkpoints import Checkpoints, decode
from .distributed import ALONE, Group
from .trainer import CPU, Trainer

LOSSES = 3  # g, d1 and d2


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
    # Epoch and batches of it that were done before, and images seen in all.
    on_resume: Callable[[int, int, int], None] = field(default=lambda epoch, batches, images: None)
    should_stop: Callable[[], bool] = field(default=lambda: False)  # asked after each batch
    # After each batch, the generator that images are drawn from.
    on_generator: Callable[[Generator], None] = field(default=lambda generator: None)


@dataclass(frozen=True)
class Safeguards:
    """Where a training's state is kept and how often, and what ends it early."""

    checkpoints: Checkpoints | None = None  # of these images, settings and compute
    checkpoint_seconds: float = math.inf  # least time between two of them
    on_divergence: Literal["stop", "warn"] = "stop"
    collapse_batches: int = 1000  # on end, that show one of divergence.SIGNS


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves."""

    generator: Generator  # the average, where one was kept
    discriminator: Discriminator
    history: list[EpochLosses]
    samples: dict[int, NDArray[np.uint8]]  # by epoch, (rows * columns, size, size)


def train(
    images: NDArray[np.uint8],
    settings: TrainSettings,
    compute: Compute,
    observer: Observer,
    safeguards: Safeguards = Safeguards(),
    group: Group = ALONE,
) -> TrainResult:
    """Train one class's pair of networks, from the newest checkpoint if there is one.

    A training that was killed and resumed ends with the same bytes as one that was not.

    Args:
        images: real images, uint8 of shape (n, size, size); a memory map is read batch by batch.
        settings: networks and schedule.
        compute: what to train on.
        observer: told of steps, epochs and sample grids; when resuming, of the earlier epochs and
            grids again. In a group each process has its own; any may stop all of them.
        safeguards: checkpoints, and what to do about divergence. In a group only the first
            process's checkpoints are used.
        group: the processes that train together; each is given all the images.

    Returns:
        the same in every process of a group, but that only the first one has samples.

    Raises:
        UserError: if a batch is larger than the set, or if the training diverges and
            ``on_divergence`` says stop; the checkpoints stay.
        KeyboardInterrupt: if an observer wants to stop; the state has been saved.
    """
    batches = steps_per_epoch(len(images), settings.batch_size)
    share = group.share_of(settings.batch_size)
    last = settings.epochs * batches
    trainer = Trainer(settings, images.shape[-1], compute, group)
    real = RealImages(images, compute.device)
    checkpoints = safeguards.checkpoints if group.first else None

    place = _Place(torch_stream(CPU, Stream.TRAIN_SHUFFLE, settings.seed).get_state())
    content = group.from_first(checkpoints.load(last) if checkpoints else None)
    if content is not None:
        state = decode(content)
        trainer.load_state(state["trainer"])
        place = _Place.from_state(state["place"])
        place.forget_samples_but(settings)
        step = (place.epoch - 1) * batches + place.batch
        observer.on_resume(place.epoch, place.batch, step * settings.batch_size)
        for losses in place.history:
            observer.on_epoch(losses)
        for epoch, grid in sorted(place.samples.items()):
            observer.on_samples(epoch, grid)

    def save() -> None:
        if checkpoints is not None and trainer.finite():
            step = (place.epoch - 1) * batches + place.batch
            checkpoints.save(step, {"trainer": trainer.state(), "place": place.state()})

    warned: set[str] = set()
    saved = time.monotonic()
    while place.epoch <= settings.epochs:
        shuffle = torch.Generator().set_state(place.shuffle)
        order = torch.randperm(len(images), generator=shuffle)
        total = torch.tensor(place.total, dtype=torch.float64, device=compute.device)
        for batch in range(place.batch, batches):
            chosen = order[batch * settings.batch_size :][: settings.batch_size][group.rows(share)]
            total += trainer.step(to_unit_range(real.batch(chosen)))
            place.batch += 1
            observer.on_step(settings.batch_size)
            observer.on_generator(trainer.drawing)
            stop = group.any(observer.should_stop())
            if stop or time.monotonic() - saved >= safeguards.checkpoint_seconds:
                place.total = total.tolist()
                save()
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt
        g, d1, d2 = (total / batches).tolist()
        _check_divergence(trainer, EpochLosses(place.epoch, g, d1, d2), safeguards, group, warned)
        place.history.append(EpochLosses(place.epoch, g, d1, d2))
        observer.on_epoch(place.history[-1])
        if group.first and (
            place.epoch in settings.samples.epochs or place.epoch == settings.epochs
        ):
            place.samples[place.epoch] = sample_grid(trainer.drawing, settings)
            observer.on_samples(place.epoch, place.samples[place.epoch])
        place.epoch, place.batch, place.total = place.epoch + 1, 0, [0.0] * LOSSES
        place.shuffle = shuffle.get_state()
    if not trainer.finite():
        raise UserError("the networks' weights are not finite numbers, so no image can be drawn")
    save()
    return TrainResult(trainer.drawing, trainer.discriminator, place.history, place.samples)


def _check_divergence(
    trainer: Trainer,
    losses: EpochLosses,
    safeguards: Safeguards,
    group: Group,
    warned: set[str],
) -> None:
    """Stop or warn, once for each reason, if the training no longer goes anywhere."""
    found = ""
    if not all(math.isfinite(loss) for loss in (losses.g, losses.d1, losses.d2)):
        sign = "the losses are not finite numbers"
        found = f"{sign} (g {losses.g:g}, d1 {losses.d1:g}, d2 {losses.d2:g})"
    elif collapse := trainer.watch.collapse(safeguards.collapse_batches):
        sign, on_end = collapse
        found = f"{sign} for {on_end} batches on end"
    if not found:
        return
    message = f"epoch {losses.epoch}: the training has diverged: {found}"
    if safeguards.on_divergence == "stop":
        newest = safeguards.checkpoints.newest() if safeguards.checkpoints else None
        kept = f"; the newest checkpoint is {newest}" if newest else ""
        raise UserError(
            f"{message}; lower a learning rate or give the discriminator more dropout, or set "
            f"train.on_divergence to warn to go on{kept}"
        )
    if sign not in warned and group.first:
        logger.warning(message)
    warned.add(sign)


def sample_grid(generator: Generator, settings: TrainSettings) -> NDArray[np.uint8]:
    """Draw the images of a sample grid, always the same ones of a training.

    Returns:
        uint8, (rows * columns, size, size).
    """
    count = settings.samples.rows * settings.samples.columns
    return generate(generator, integer_seed(Stream.TRAIN_SAMPLES, settings.seed), count)


@dataclass
class _Place:
    """How far a training has come, between two batches."""

    shuffle: Tensor  # state of the generator of orders at the start of the epoch
    epoch: int = 1  # the current one
    batch: int = 0  # batches of it that are done
    total: list[float] = field(default_factory=lambda: [0.0] * LOSSES)  # sums of their losses
    history: list[EpochLosses] = field(default_factory=list)
    samples: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """As tensors and numbers."""
        return vars(self) | {
            "history": [asdict(losses) for losses in self.history],
            "samples": {epoch: torch.from_numpy(grid) for epoch, grid in self.samples.items()},
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of ``state``."""
        history = [EpochLosses(**losses) for losses in state["history"]]
        samples = {epoch: grid.numpy() for epoch, grid in state["samples"].items()}
        return cls(**(state | {"history": history, "samples": samples}))

    def forget_samples_but(self, settings: TrainSettings) -> None:
        """Drop the grid that a shorter training drew because the epoch was its last."""
        chosen = {*settings.samples.epochs, settings.epochs}
        self.samples = {epoch: grid for epoch, grid in self.samples.items() if epoch in chosen}


def steps_per_epoch(images: int, batch: int) -> int:
    """Batches in an epoch; the remainder is dropped, as in the thesis.

    Raises:
        UserError: if not even one batch fits.
    """
    if batch > images:
        raise UserError(f"batch: {batch} is more than the {images} images of the train split")
    return images // batch
