"""Stages train_normal and train_pneumonia: `python -m pipeline.train normal`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.stage import Stage, array_path, model_folder, read_array, run_stage
from src.compute import choose_compute
from src.files import folder_in_place_of, write_atomic
from src.grids import png, tile
from src.models.networks import count_parameters, save_generator
from src.progress import Progress, say
from src.settings.tree import ClassName
from src.training.gan import EpochLosses, Observer, steps_per_epoch, train


def train_class(stage: Stage, name: ClassName) -> None:
    """Write models/<class> and the metrics."""
    settings = stage.settings.train_of(name)
    compute = choose_compute(stage.settings.compute)
    images = read_array(array_path(name, "train"))
    steps = steps_per_epoch(len(images), settings.batch)
    for choice, value in compute.describe().items():
        stage.run.set_tag(f"compute.{choice}", value)
    grids: dict[int, NDArray[np.uint8]] = {}
    say(
        f"{name}: {len(images)} images, {settings.epochs} epochs of {steps} batches of "
        f"{settings.batch} on {compute.device} in {compute.precision}"
    )

    def on_epoch(losses: EpochLosses) -> None:
        stage.run.log_metrics({"g": losses.g, "d1": losses.d1, "d2": losses.d2}, losses.epoch)

    def on_samples(epoch: int, samples: NDArray[np.uint8]) -> None:
        grids[epoch] = tile(samples, settings.samples.columns)
        stage.run.log_image("samples", grids[epoch], epoch)

    with Progress(f"train {name}", settings.epochs * steps * settings.batch, "images") as shown:
        observer = Observer(shown.advance, on_epoch, on_samples)
        result = train(images, settings, compute, observer)

    folder = model_folder(name)
    history = pd.DataFrame([asdict(losses) for losses in result.history])
    write_atomic(folder / "history.csv", history.to_csv(index=False, lineterminator="\n"))
    with folder_in_place_of(folder / "samples") as samples_folder:
        for epoch, grid in grids.items():
            (samples_folder / f"epoch_{epoch:05d}.png").write_bytes(png(grid))
    save_generator(folder / "generator.pt", result.generator)
    last = result.history[-1]
    stage.write_metrics(
        f"train_{name}",
        {
            "images": len(images),
            "epochs": settings.epochs,
            "batches_per_epoch": steps,
            "batch": settings.batch,
            "generator_parameters": count_parameters(result.generator),
            "discriminator_parameters": count_parameters(result.discriminator),
            "last_losses": {"g": last.g, "d1": last.d1, "d2": last.d2},
        },
    )
    stage.run.log_file(folder / "history.csv")
    generator = result.generator.eval().cpu()
    stage.run.log_generator(f"generator-{name}", generator, settings.generator.latent)
    say(f"{name}: last losses g {last.g:.3f}, d1 {last.d1:.3f}, d2 {last.d2:.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage of one class."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=__doc__)
    parser.add_argument("name", choices=get_args(ClassName), help="the class to train")
    name = parser.parse_args(argv).name
    return run_stage(f"train_{name}", lambda stage: train_class(stage, name))


if __name__ == "__main__":
    sys.exit(main())
