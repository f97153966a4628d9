"""Stages train_normal and train_pneumonia: `python -m pipeline.train normal`.

With `train.processes` above 1 the stage launches so many on this host. On several hosts torchrun
launches them: `torchrun --nnodes 2 ... -m pipeline.train normal` on each.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.checkpoints import checkpoint_folder, training_key
from pipeline.stage import Stage, track
from src.common.devices import Compute, choose_compute
from src.common.errors import UserError, report_errors
from src.common.files import atomic_folder, sha256_of_array
from src.common.logging import logger
from src.common.outputs import read_array, write_table
from src.common.paths import HOME, PARAMS, array_path, generator_path, model_folder
from src.common.processes import end_with_parent, stop_requests
from src.common.progress import Progress
from src.config.settings import ClassName, Settings, load_settings
from src.config.train import TrainSettings
from src.data.grids import png, tile
from src.models.architectures import load_architecture
from src.models.flops import forward_flops
from src.models.io import Origin, save_generator
from src.models.networks import count_parameters
from src.tracking.runs import Run, archive_run
from src.training.checkpoints import Checkpoints
from src.training.distributed import SINGLE_PROCESS, ProcessGroup
from src.training.launch import INTERRUPTED, find_worker, launch
from src.training.loop import (
    EpochLosses,
    Safeguards,
    TrainingCallbacks,
    TrainResult,
    steps_per_epoch,
    train,
)


def start(name: ClassName) -> None:
    """Train a class in this process, in several that it launches, or as one of those."""
    settings = load_settings(PARAMS)
    worker = find_worker()
    if worker is None and settings.train.processes > 1:
        check_before_launch(settings, name)
        launch("pipeline.train", [name], settings.train.processes)
        return
    if worker is None:
        compute = choose_compute(settings.compute)
        key = training_key(settings, name, compute)
        train_as_first(settings, name, compute, key, SINGLE_PROCESS)
        return
    end_with_parent()
    compute = choose_compute(settings.compute, worker.local_rank, worker.local_size)
    key = training_key(settings, name, compute)
    with ProcessGroup.init(compute.device, worker.rendezvous_file) as group:
        group.check_same("parameters, data and code", key)
        if group.is_first:
            train_as_first(settings, name, compute, key, group)
        else:
            train_as_other(settings, name, compute, group)


def check_before_launch(settings: Settings, name: ClassName) -> None:
    """Refuse here, and once, what each of several processes would refuse.

    Raises:
        UserError: if something is missing, or if the processes cannot train together.
    """
    train_settings, image_size = settings.train_of(name), settings.preprocess.image_size
    compute = choose_compute(settings.compute, local_size=settings.train.processes)
    training_key(settings, name, compute)
    steps_per_epoch(len(read_array(array_path(name, "train"))), train_settings.batch_size)
    classes = load_architecture(train_settings.architecture)
    networks = (
        classes.generator(train_settings.generator, image_size),
        classes.discriminator(train_settings.discriminator, image_size),
    )
    ProcessGroup(0, settings.train.processes).check_networks(networks)


def train_as_first(
    settings: Settings, name: ClassName, compute: Compute, key: str, group: ProcessGroup
) -> None:
    """Train as the only or first process, which keeps checkpoints, tracks and writes."""
    with checkpoint_folder(name, key) as folder:
        checkpoints = Checkpoints(folder)
        work = f"train_{name}-{folder.name}"
        track(
            f"train_{name}",
            settings,
            lambda stage: train_class(stage, name, compute, checkpoints, group),
            work,
        )
        # Not before everything was written and logged: a finished training that is asked for
        # starts anew, in a run of its own.
        checkpoints.finish()
        archive_run(HOME, work)


def train_as_other(
    settings: Settings, name: ClassName, compute: Compute, group: ProcessGroup
) -> None:
    """Train as one of the other processes, which write nothing."""
    images = read_array(array_path(name, "train"))
    safeguards = _safeguards(settings, None)
    with stop_requests() as stops:
        callbacks = TrainingCallbacks(should_stop=lambda: bool(stops))
        try:
            train(images, settings.train_of(name), compute, callbacks, safeguards, group)
        except UserError:  # the first process meets these too, and reports them
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def train_class(
    stage: Stage, name: ClassName, compute: Compute, checkpoints: Checkpoints, group: ProcessGroup
) -> None:
    """Train a class, and write models/<class> and the metrics."""
    settings = stage.settings.train_of(name)
    images = read_array(array_path(name, "train"))
    safeguards = _safeguards(stage.settings, checkpoints)
    result = run_training(stage.run, name, images, settings, compute, safeguards, group)
    _write_results(stage, name, images, result)
    _write_metrics(stage, name, images, steps_per_epoch(len(images), settings.batch_size), result)
    last = result.history[-1]
    logger.info(
        f"{name}: last losses g {last.loss_g:.3f}, d1 {last.loss_d_fake:.3f}, "
        f"d2 {last.loss_d_real:.3f}"
    )


def run_training(
    run: Run,
    title: str,
    images: NDArray[np.uint8],
    settings: TrainSettings,
    compute: Compute,
    safeguards: Safeguards,
    group: ProcessGroup = SINGLE_PROCESS,
) -> TrainResult:
    """Train with its progress shown, and its losses and samples logged; stop on request.

    Args:
        run: the MLflow run of the training.
        title: what the lines about it begin with.
        images: real images, uint8 (n, size, size).
        settings: networks and schedule.
        compute: what to train on.
        safeguards: with checkpoints.
        group: the processes that train together.

    Raises:
        UserError, KeyboardInterrupt: as ``train``.
    """
    steps = steps_per_epoch(len(images), settings.batch_size)
    _report_start(run, title, settings, compute, group, len(images), steps)
    total = settings.epochs * steps * settings.batch_size
    with Progress(f"train {title}", total, "images") as progress, stop_requests() as stops:
        checkpoints = safeguards.checkpoints
        assert checkpoints is not None
        callbacks = _callbacks(run, title, settings, steps, progress, checkpoints, stops)
        return train(images, settings, compute, callbacks, safeguards, group)


def _report_start(
    run: Run,
    title: str,
    settings: TrainSettings,
    compute: Compute,
    group: ProcessGroup,
    images: int,
    steps: int,
) -> None:
    """Log what is trained, and on what."""
    for choice, value in compute.describe().items():
        run.set_tag(f"compute.{choice}", value)
    run.set_tag("compute.processes", str(group.size))
    together = f" in {group.size} processes" if group.size > 1 else ""
    logger.info(
        f"{title}: {images} images, {settings.epochs} epochs of {steps} batches of "
        f"{settings.batch_size} on {compute.device} in {compute.precision}{together}"
    )


def _callbacks(
    run: Run,
    title: str,
    settings: TrainSettings,
    steps: int,
    progress: Progress,
    checkpoints: Checkpoints,
    stops: list[int],
) -> TrainingCallbacks:
    """Make the callbacks that show progress, log losses and samples, and stop on request."""

    def on_epoch(losses: EpochLosses) -> None:
        values = {"g": losses.loss_g, "d1": losses.loss_d_fake, "d2": losses.loss_d_real}
        run.log_metrics(values, losses.epoch)

    def on_samples(epoch: int, samples: NDArray[np.uint8]) -> None:
        run.log_image("samples", tile(samples, settings.samples.columns), epoch)

    def on_resume(epoch: int, batches: int, seen: int) -> None:
        progress.resume(seen)
        if checkpoints.extends_finished:
            logger.info(f"{title}: going on from the finished training of {epoch - 1} epochs")
            run.set_tag("continues.epochs", str(epoch - 1))
            return
        is_partial = seen < progress.total
        done = f"{batches} of {steps} batches of epoch {epoch}" if is_partial else "all epochs"
        logger.info(f"{title}: going on from a checkpoint, with {done} done")
        run.set_tag("resumed.after", done)

    announced: list[bool] = []

    def should_stop() -> bool:
        if stops and not announced:
            announced.append(True)
            logger.info(
                f"stopping: the state is kept in {checkpoints.folder}; `dvc repro` goes on from it"
            )
        return bool(stops)

    return TrainingCallbacks(progress.advance, on_epoch, on_samples, on_resume, should_stop)


def _safeguards(settings: Settings, checkpoints: Checkpoints | None) -> Safeguards:
    """Return the safeguards that the parameters describe."""
    shared = settings.train
    return Safeguards(
        checkpoints,
        shared.checkpoint_interval_seconds,
        shared.on_divergence,
        shared.collapse_patience,
    )


def _write_results(
    stage: Stage, name: ClassName, images: NDArray[np.uint8], result: TrainResult
) -> None:
    """Write the losses, the sample grids and the generator to models/<class>."""
    settings = stage.settings.train_of(name)
    folder = model_folder(name)
    # The columns have the thesis's names.
    history = pd.DataFrame(
        [(row.epoch, row.loss_g, row.loss_d_fake, row.loss_d_real) for row in result.history],
        columns=["epoch", "g", "d1", "d2"],
    )
    write_table(folder / "history.csv", history)
    stage.run.log_file(folder / "history.csv")
    with atomic_folder(folder / "samples") as samples_folder:
        for epoch, samples in result.samples.items():
            grid = tile(samples, settings.samples.columns)
            (samples_folder / f"epoch_{epoch:05d}.png").write_bytes(png(grid))
    origin = Origin(
        label=name.upper(),
        source=stage.settings.data.source,
        images=len(images),
        images_sha256=sha256_of_array(images),
        training=settings.model_dump(mode="json"),
    )
    save_generator(generator_path(name), result.generator, origin)


def _write_metrics(
    stage: Stage, name: ClassName, images: NDArray[np.uint8], steps: int, result: TrainResult
) -> None:
    """Write reports/metrics/train_<class>.json."""
    settings = stage.settings.train_of(name)
    last = result.history[-1]
    stage.write_metrics(
        f"train_{name}",
        {
            "images": len(images),
            "epochs": settings.epochs,
            "batches_per_epoch": steps,
            "batch": settings.batch_size,
            "generator_parameters": count_parameters(result.generator),
            "discriminator_parameters": count_parameters(result.discriminator),
            "mflop_per_image": forward_flops(settings, images.shape[-1]) / 1e6,
            "loss": settings.loss,
            "last_losses": {"g": last.loss_g, "d1": last.loss_d_fake, "d2": last.loss_d_real},
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage of one class."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=__doc__)
    parser.add_argument("name", choices=get_args(ClassName), help="the class to train")
    name: ClassName = parser.parse_args(argv).name
    return report_errors(lambda: start(name))


if __name__ == "__main__":
    sys.exit(main())
