"""Stages train_normal and train_pneumonia: `python -m pipeline.train normal`.

With `train.processes` above 1 the stage starts so many on this host. On several hosts torchrun
starts them: `torchrun --nnodes 2 ... -m pipeline.train normal` on each.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
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
from src.data.grids import png, tile
from src.models.flops import forward_flops
from src.models.io import Origin, save_generator
from src.models.networks import Discriminator, Generator, count_parameters
from src.tracking.runs import archive_run
from src.training.checkpoints import Checkpoints
from src.training.distributed import ALONE, Group
from src.training.launch import INTERRUPTED, Place, launch, place_in_torchrun
from src.training.loop import EpochLosses, Observer, Safeguards, steps_per_epoch, train

ALONE_HERE = Place(rank=0, local_rank=0, local_size=1)


def start(name: ClassName) -> None:
    """Train a class in this process, or in several that it starts or is one of."""
    settings = load_settings(PARAMS)
    place = place_in_torchrun()
    if place is not None:
        end_with_parent()
    if place is None and settings.train.processes > 1:
        # What can be refused is refused here, once.
        chosen, processes = settings.train_of(name), settings.train.processes
        compute = choose_compute(settings.compute, local_size=processes)
        training_key(settings, name, compute)
        steps_per_epoch(len(read_array(array_path(name, "train"))), chosen.batch_size)
        networks = (
            Generator(chosen.generator, settings.preprocess.image_size),
            Discriminator(chosen.discriminator, settings.preprocess.image_size),
        )
        Group(0, processes).check_networks(networks)
        launch("pipeline.train", [name], processes)
        return
    where = place or ALONE_HERE
    compute = choose_compute(settings.compute, where.local_rank, where.local_size)
    key = training_key(settings, name, compute)
    if place is None:
        lead(settings, name, compute, key, ALONE)
        return
    with Group.joined(compute.device, place.meeting) as group:
        group.check_same("parameters, data and code", key)
        if group.first:
            lead(settings, name, compute, key, group)
        else:
            follow(settings, name, compute, group)


def lead(settings: Settings, name: ClassName, compute: Compute, key: str, group: Group) -> None:
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


def follow(settings: Settings, name: ClassName, compute: Compute, group: Group) -> None:
    """Train as one of the other processes, which write nothing."""
    images = read_array(array_path(name, "train"))
    safeguards = _safeguards(settings, None)
    with stop_requests() as stops:
        observer = Observer(should_stop=lambda: bool(stops))
        try:
            train(images, settings.train_of(name), compute, observer, safeguards, group)
        except UserError:  # the first process meets these too, and tells
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def train_class(
    stage: Stage, name: ClassName, compute: Compute, checkpoints: Checkpoints, group: Group
) -> None:
    """Write models/<class> and the metrics."""
    settings = stage.settings.train_of(name)
    images = read_array(array_path(name, "train"))
    steps = steps_per_epoch(len(images), settings.batch_size)
    for choice, value in compute.describe().items():
        stage.run.set_tag(f"compute.{choice}", value)
    stage.run.set_tag("compute.processes", str(group.size))
    together = f" in {group.size} processes" if group.size > 1 else ""
    logger.info(
        f"{name}: {len(images)} images, {settings.epochs} epochs of {steps} batches of "
        f"{settings.batch_size} on {compute.device} in {compute.precision}{together}"
    )

    def on_epoch(losses: EpochLosses) -> None:
        stage.run.log_metrics({"g": losses.g, "d1": losses.d1, "d2": losses.d2}, losses.epoch)

    def on_samples(epoch: int, samples: NDArray[np.uint8]) -> None:
        stage.run.log_image("samples", tile(samples, settings.samples.columns), epoch)

    whole = settings.epochs * steps * settings.batch_size
    progress = Progress(f"train {name}", whole, "images")

    def on_resume(epoch: int, batches: int, seen: int) -> None:
        progress.resume(seen)
        if checkpoints.continues_finished:
            logger.info(f"{name}: going on from the finished training of {epoch - 1} epochs")
            stage.run.set_tag("continues.epochs", str(epoch - 1))
            return
        done = f"{batches} of {steps} batches of epoch {epoch}" if seen < whole else "all epochs"
        logger.info(f"{name}: going on from a checkpoint, with {done} done")
        stage.run.set_tag("resumed.after", done)

    with progress, stop_requests() as stops:
        observer = Observer(
            progress.advance, on_epoch, on_samples, on_resume, _stopper(stops, checkpoints)
        )
        safeguards = _safeguards(stage.settings, checkpoints)
        result = train(images, settings, compute, observer, safeguards, group)

    place = model_folder(name)
    history = pd.DataFrame([asdict(losses) for losses in result.history])
    write_table(place / "history.csv", history)
    with atomic_folder(place / "samples") as samples_folder:
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
    final = result.history[-1]
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
            "last_losses": {"g": final.g, "d1": final.d1, "d2": final.d2},
        },
    )
    stage.run.log_file(place / "history.csv")
    logger.info(f"{name}: last losses g {final.g:.3f}, d1 {final.d1:.3f}, d2 {final.d2:.3f}")


def _safeguards(settings: Settings, checkpoints: Checkpoints | None) -> Safeguards:
    """The safeguards that the parameters name."""
    shared = settings.train
    return Safeguards(
        checkpoints,
        shared.checkpoint_interval_seconds,
        shared.on_divergence,
        shared.collapse_patience,
    )


def _stopper(stops: list[int], checkpoints: Checkpoints) -> Callable[[], bool]:
    """Whether to stop; it says so, the first time."""
    told: list[bool] = []

    def should_stop() -> bool:
        if stops and not told:
            told.append(True)
            logger.info(
                f"stopping: the state is kept in {checkpoints.folder}; `dvc repro` goes on from it"
            )
        return bool(stops)

    return should_stop


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage of one class."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=__doc__)
    parser.add_argument("name", choices=get_args(ClassName), help="the class to train")
    name: ClassName = parser.parse_args(argv).name
    return report_errors(lambda: start(name))


if __name__ == "__main__":
    sys.exit(main())
