"""The training of one class: epochs of steps, sample grids, checkpoints, and its early end."""

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
from .batches import BatchLoader
from .checkpoints import Checkpoints, decode
from .distributed import SINGLE_PROCESS, ProcessGroup
from .trainer import CPU, Trainer


@dataclass(frozen=True)
class EpochLosses:
    """Mean losses over the batches of one epoch."""

    epoch: int  # from 1
    loss_g: float  # of the generator
    loss_d_fake: float  # of the discriminator on generated images; d1 in the thesis
    loss_d_real: float  # of the discriminator on real images; d2 in the thesis


@dataclass
class TrainingCallbacks:
    """Functions that the training calls; by default they do nothing."""

    on_step: Callable[[int], None] = field(default=lambda images: None)  # with the batch's images
    on_epoch: Callable[[EpochLosses], None] = field(default=lambda losses: None)
    on_samples: Callable[[int, NDArray[np.uint8]], None] = field(
        default=lambda epoch, images: None
    )  # with the epoch and uint8 (rows * columns, size, size)
    # With the epoch, the batches of it that were done before, and the images seen in all.
    on_resume: Callable[[int, int, int], None] = field(default=lambda epoch, batches, images: None)
    should_stop: Callable[[], bool] = field(default=lambda: False)  # after each batch
    # After each batch, with the generator that images are drawn from.
    on_generator: Callable[[Generator], None] = field(default=lambda generator: None)


@dataclass(frozen=True)
class Safeguards:
    """Where and how often checkpoints are saved, and what ends a training early."""

    checkpoints: Checkpoints | None = None  # of these images, settings and compute
    checkpoint_interval_seconds: float = math.inf  # at least, between two checkpoints
    on_divergence: Literal["stop", "warn"] = "stop"
    collapse_patience: int = 1000  # consecutive batches with one of collapse.SIGNS


@dataclass(frozen=True)
class TrainResult:
    """Networks, losses and sample grids of a training."""

    generator: Generator  # the averaged one, if there is an average
    discriminator: Discriminator
    history: list[EpochLosses]
    samples: dict[int, NDArray[np.uint8]]  # by epoch, (rows * columns, size, size)


@dataclass
class TrainingState:
    """How far a training has come, between two batches."""

    shuffle_state: Tensor  # of the generator of image orders, at the start of the epoch
    epoch: int = 1  # the current one
    batches_done: int = 0  # of the current epoch
    # Sums over them of the losses of the generator, and the discriminator on fake and real images.
    loss_sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    history: list[EpochLosses] = field(default_factory=list)
    samples: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def start_next_epoch(self, shuffle_state: Tensor) -> None:
        """Move on to the first batch of the next epoch."""
        self.epoch, self.batches_done, self.loss_sums = self.epoch + 1, 0, [0.0, 0.0, 0.0]
        self.shuffle_state = shuffle_state

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and numbers."""
        return vars(self) | {
            "history": [asdict(losses) for losses in self.history],
            "samples": {epoch: torch.from_numpy(grid) for epoch, grid in self.samples.items()},
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], settings: TrainSettings) -> Self:
        """Restore what ``state_dict`` returned, for a training with these settings.

        A grid that a shorter training drew because the epoch was its last is left out.
        """
        epochs = {*settings.samples.epochs, settings.epochs}
        history = [EpochLosses(**losses) for losses in state["history"]]
        samples = {e: grid.numpy() for e, grid in state["samples"].items() if e in epochs}
        return cls(**(state | {"history": history, "samples": samples}))


def train(
    images: NDArray[np.uint8],
    settings: TrainSettings,
    compute: Compute,
    callbacks: TrainingCallbacks,
    safeguards: Safeguards = Safeguards(),
    group: ProcessGroup = SINGLE_PROCESS,
) -> TrainResult:
    """Train one class's pair of networks, from the newest checkpoint if there is one.

    A training that was killed and resumed ends with the same bytes as one that was not.

    Args:
        images: real images, uint8 of shape (n, size, size); a memory map is read batch by batch.
        settings: networks and schedule.
        compute: what to train on.
        callbacks: called at steps, epochs and sample grids; after resuming, also with the earlier
            epochs and grids. In a group each process has its own; any may stop all of them.
        safeguards: checkpoints, and what to do about divergence. In a group only the first
            process's checkpoints are used.
        group: the processes that train together; each is given all the images.

    Returns:
        the same in every process of a group, but that only the first one has samples.

    Raises:
        UserError: if a batch is larger than the set, or if the training diverges and
            ``on_divergence`` is "stop"; the checkpoints stay.
        KeyboardInterrupt: if ``should_stop`` returned True; the state has been saved.
    """
    # Build the networks and what they learn from.
    batch_size = settings.batch_size
    batches_per_epoch = steps_per_epoch(len(images), batch_size)
    local_part = group.local_part(group.local_batch_size(batch_size))
    trainer = Trainer(settings, images.shape[-1], compute, group)
    trainer.fit(images)
    loader = BatchLoader(images, compute.device)

    # Resume from the newest checkpoint.
    checkpoints = safeguards.checkpoints if group.is_first else None
    last_step = settings.epochs * batches_per_epoch
    content = group.broadcast(checkpoints.load(last_step) if checkpoints else None)
    if content is None:
        state = TrainingState(torch_stream(CPU, Stream.TRAIN_SHUFFLE, settings.seed).get_state())
    else:
        loaded = decode(content)
        trainer.load_state_dict(loaded["trainer"])
        state = TrainingState.from_state_dict(loaded["progress"], settings)
        _report_resumption(state, batches_per_epoch * batch_size, batch_size, callbacks)

    def save() -> None:
        if checkpoints is not None and trainer.all_finite():
            step = (state.epoch - 1) * batches_per_epoch + state.batches_done
            checkpoints.save(
                step, {"trainer": trainer.state_dict(), "progress": state.state_dict()}
            )

    warned: set[str] = set()
    saved_at = time.monotonic()
    while state.epoch <= settings.epochs:
        # Shuffle the images.
        shuffle = torch.Generator().set_state(state.shuffle_state)
        order = torch.randperm(len(images), generator=shuffle)
        loss_sums = torch.tensor(state.loss_sums, dtype=torch.float64, device=compute.device)

        for batch in range(state.batches_done, batches_per_epoch):
            # Update both networks.
            indices = order[batch * batch_size :][:batch_size][local_part]
            loss_sums += trainer.step(to_unit_range(loader.load(indices)))
            state.batches_done += 1
            callbacks.on_step(batch_size)
            callbacks.on_generator(trainer.sampling_generator)

            # Save a checkpoint, and stop if asked to.
            stop = group.any(callbacks.should_stop())
            seconds = time.monotonic() - saved_at
            if stop or seconds >= safeguards.checkpoint_interval_seconds:
                state.loss_sums = loss_sums.tolist()
                save()
                saved_at = time.monotonic()
            if stop:
                raise KeyboardInterrupt

        # Report the losses, and end a training that has diverged.
        losses = EpochLosses(state.epoch, *(loss_sums / batches_per_epoch).tolist())
        _check_divergence(trainer, losses, safeguards, group, warned)
        state.history.append(losses)
        callbacks.on_epoch(losses)

        # Draw a sample grid.
        if group.is_first and state.epoch in (*settings.samples.epochs, settings.epochs):
            state.samples[state.epoch] = sample_grid(trainer.sampling_generator, settings)
            callbacks.on_samples(state.epoch, state.samples[state.epoch])
        state.start_next_epoch(shuffle.get_state())

    # Save the final state.
    if not trainer.all_finite():
        raise UserError("the networks' weights are not finite numbers, so no image can be drawn")
    save()
    return TrainResult(
        trainer.sampling_generator, trainer.discriminator, state.history, state.samples
    )


def sample_grid(generator: Generator, settings: TrainSettings) -> NDArray[np.uint8]:
    """Draw the images of a sample grid, always the same ones of a training.

    Returns:
        uint8, (rows * columns, size, size).
    """
    count = settings.samples.rows * settings.samples.columns
    return generate(generator, integer_seed(Stream.TRAIN_SAMPLES, settings.seed), count)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Count the batches of an epoch; the remainder is dropped, as in the thesis.

    Raises:
        UserError: if not even one batch fits.
    """
    if batch_size > images:
        raise UserError(
            f"batch_size: {batch_size} is more than the {images} images of the train split; "
            "set it lower"
        )
    return images // batch_size


def _report_resumption(
    state: TrainingState, images_per_epoch: int, batch_size: int, callbacks: TrainingCallbacks
) -> None:
    """Call the callbacks with what a resumed training had done before."""
    images_seen = (state.epoch - 1) * images_per_epoch + state.batches_done * batch_size
    callbacks.on_resume(state.epoch, state.batches_done, images_seen)
    for losses in state.history:
        callbacks.on_epoch(losses)
    for epoch, grid in sorted(state.samples.items()):
        callbacks.on_samples(epoch, grid)


def _check_divergence(
    trainer: Trainer,
    losses: EpochLosses,
    safeguards: Safeguards,
    group: ProcessGroup,
    warned: set[str],
) -> None:
    """Stop the training if it has diverged, or warn once for each sign, which joins ``warned``.

    Raises:
        UserError: if it has diverged and ``on_divergence`` is "stop".
    """
    values = (losses.loss_g, losses.loss_d_fake, losses.loss_d_real)
    if not all(map(math.isfinite, values)):
        sign = "the losses are not finite numbers"
        details = " (g {:g}, d1 {:g}, d2 {:g})".format(*values)
    elif found := trainer.collapse_monitor.find_sign(safeguards.collapse_patience):
        sign, batches = found
        details = f" for {batches} consecutive batches"
    else:
        return
    message = f"epoch {losses.epoch}: the training has diverged: {sign}{details}"
    if safeguards.on_divergence == "stop":
        newest = safeguards.checkpoints.newest() if safeguards.checkpoints else None
        kept = f"; the newest checkpoint is {newest}" if newest else ""
        raise UserError(
            f"{message}; lower a learning rate or give the discriminator more dropout, or set "
            f"train.on_divergence to warn to go on{kept}"
        )
    if sign not in warned and group.is_first:
        logger.warning(message)
    warned.add(sign)
