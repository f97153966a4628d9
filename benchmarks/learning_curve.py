"""Fréchet distance over a training of one class, against images seen and seconds.

`python -m benchmarks.learning_curve NAME --class normal [--networks thesis] [--set KEY=VALUE ...]`
trains on the arrays that `dvc repro preprocess` made and scores as many generated images as there
are real ones to judge by, with 768 features of the Inception network. `--judge held-out`, which
keeps patients of the train split out of the training, is for choosing settings; `--judge test` is
for the end. The seconds are those of the training alone. Writes NAME.csv, NAME.json and NAME.png
(generated images) to reports/kermany, and the generator of a whole training to
models/curves/NAME.pt.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.workspace import ROOT, processor
from src.common.devices import Compute, choose_compute
from src.common.errors import UserError, report_errors
from src.common.files import sha256_of_array, write_file, write_json
from src.common.logging import logger
from src.common.outputs import read_array, write_table
from src.common.paths import array_path
from src.common.progress import Progress
from src.config.presets import preset_overrides
from src.config.settings import ClassName, flatten, load_settings
from src.config.train import TrainSettings
from src.data.dataset import train_sets
from src.data.download import download_inception
from src.data.grids import png, tile
from src.data.patients import Patients
from src.metrics.features import extract_features
from src.metrics.frechet import FeatureSet, frechet_distance
from src.metrics.inception import InceptionExtractor, load_inception
from src.models.io import Origin, save_generator
from src.training.loop import TrainingCallbacks, steps_per_epoch, train

Images = NDArray[np.uint8]
FOLDER = ROOT / "reports" / "kermany"
DIMS = 768
BATCH = 39  # of the extractor; both sizes of Kermany's test split are its multiples
COLUMNS = 26  # of the sample grids, whose images are judged
HELD_OUT = 234  # images at least, of whole patients
SHOWN, SHOWN_COLUMNS = 48, 16  # generated images in the picture
FIRST, GROWTH = 15_000, 1.5  # images until the first score, and between the scores


@dataclass(frozen=True)
class Scorer:
    """Scores of generated images by their distance to real ones."""

    extractor: InceptionExtractor
    device: torch.device
    real: FeatureSet

    def score(self, images: Images) -> float:
        """Compute the Fréchet distance of images, uint8 (n, size, size), to the real ones."""
        return frechet_distance(_features(self.extractor, images, self.device), self.real)


@dataclass
class Curve:
    """Scores of a training, written as they are made; its clock stops while it scores."""

    name: str  # of the files
    scorer: Scorer
    images_per_epoch: int
    rows: list[dict[str, float]] = field(default_factory=list)
    _started_at: float = field(default_factory=time.perf_counter)
    _scoring_seconds: float = 0.0

    def training_seconds(self) -> float:
        """Return the seconds of training so far."""
        return time.perf_counter() - self._started_at - self._scoring_seconds

    def add(self, epoch: int, generated: Images) -> None:
        """Score an epoch's images, and write the curve and a picture."""
        seconds, begun_at = self.training_seconds(), time.perf_counter()
        row = {
            "epoch": epoch,
            "images": epoch * self.images_per_epoch,
            "seconds": round(seconds, 1),
            "fid": round(self.scorer.score(generated), 4),
        }
        self.rows.append(row)
        logger.info(
            f"{self.name}: {row['images']} images, {seconds:.0f} s: distance {row['fid']:.3f}"
        )
        write_table(FOLDER / f"{self.name}.csv", pd.DataFrame(self.rows))
        grid = tile(generated[:SHOWN], SHOWN_COLUMNS)
        write_file(FOLDER / f"{self.name}.png", png(grid))
        self._scoring_seconds += time.perf_counter() - begun_at


def _features(extractor: InceptionExtractor, images: Images, device: torch.device) -> FeatureSet:
    """Compute the statistics of the images' features."""
    return FeatureSet(extract_features(extractor, images, BATCH, device))


def split_by_patient(images: Images, patients: Patients, min_images: int) -> tuple[Images, Images]:
    """Hold out ``min_images`` images of the last patients by name.

    Returns:
        the images to train on and the held-out ones; the other images of the held-out patients
        are in neither.
    """
    names, indices, counts = np.unique(patients.ids, return_inverse=True, return_counts=True)
    # Patients from the end until there are enough images.
    last = len(names) - np.searchsorted(np.cumsum(counts[::-1]), min_images) - 1
    is_held_out = indices >= last
    return images[~is_held_out], images[is_held_out][:min_images]


def epochs_to_score(settings: TrainSettings, steps: int) -> list[int]:
    """List the epochs at which the images seen have grown by ``GROWTH``, and the last."""
    images_per_epoch = steps * settings.batch_size
    epochs: list[int] = []
    images = float(FIRST)
    while images < settings.epochs * images_per_epoch:
        epochs.append(max(round(images / images_per_epoch), 1))
        images *= GROWTH
    return sorted({*epochs, settings.epochs})


def real_images(name: ClassName, judge: Literal["held-out", "test"]) -> tuple[Images, Images]:
    """Load the images to train on, and those that generated ones are compared with.

    Raises:
        UserError: if the latter do not fill the rows of a sample grid.
    """
    train_set = train_sets()[name.upper()]
    images = train_set.images
    if judge == "held-out":
        images, reference = split_by_patient(images, train_set.patients, HELD_OUT)
    else:
        reference = read_array(array_path(name, "test"))
    if len(reference) % COLUMNS:
        raise UserError(f"{len(reference)} images to judge by are not a multiple of {COLUMNS}")
    return images, reference


def run(arguments: argparse.Namespace) -> None:
    """Train, score and write the three files of a curve."""
    # Read the parameters and the images.
    name: ClassName = arguments.label
    overrides = preset_overrides(arguments.networks, name) if arguments.networks else []
    overrides += [f"train.{name}.{item}" for item in (*arguments.set, f"seed={arguments.seed}")]
    settings = load_settings(ROOT / "params.yaml", overrides)
    compute = choose_compute(settings.compute)
    images, reference = real_images(name, arguments.judge)

    # Score real images, as the best that a generator may reach.
    extractor = load_inception(arguments.weights or download_inception(), DIMS, compute.device)
    scorer = Scorer(extractor, compute.device, _features(extractor, reference, compute.device))
    others = np.random.default_rng(0).permutation(len(images))[: len(reference)]
    floor = scorer.score(images[np.sort(others)])
    logger.info(
        f"{len(images)} images to train on, {len(reference)} to judge by; "
        f"the distance between them is {floor:.3f}"
    )

    # Train, and score as it goes on.
    chosen = settings.train_of(name)
    steps = steps_per_epoch(len(images), chosen.batch_size)
    grids = {
        "epochs": tuple(epochs_to_score(chosen, steps)),
        "rows": len(reference) // COLUMNS,
        "columns": COLUMNS,
    }
    chosen = chosen.model_copy(update={"samples": chosen.samples.model_copy(update=grids)})
    train_and_score(arguments, images, settings.data.source, chosen, compute, scorer)

    write_json(
        FOLDER / f"{arguments.name}.json",
        {
            "command": "python -m benchmarks.learning_curve " + " ".join(sys.argv[1:]),
            "class": name,
            "seed": arguments.seed,
            "judge": arguments.judge,
            "images_to_train_on": len(images),
            "images_to_judge_by": len(reference),
            "real_train_against_judge": floor,
            "features": f"inception, {DIMS}",
            "machine": {"processor": processor(), **compute.describe()},
            "parameters": flatten(settings.train_of(name)),
        },
    )


def train_and_score(
    arguments: argparse.Namespace,
    images: Images,
    source: str,
    settings: TrainSettings,
    compute: Compute,
    scorer: Scorer,
) -> None:
    """Train until the last epoch or minute, and save the generator of a whole training."""
    steps = steps_per_epoch(len(images), settings.batch_size)
    curve = Curve(arguments.name, scorer, steps * settings.batch_size)
    total = settings.epochs * curve.images_per_epoch
    max_seconds = 60 * arguments.minutes
    try:
        with Progress(f"train {arguments.label}", total, "images") as progress:
            callbacks = TrainingCallbacks(
                on_step=progress.advance,
                on_samples=curve.add,
                should_stop=lambda: curve.training_seconds() > max_seconds,
            )
            result = train(images, settings, compute, callbacks)
    except KeyboardInterrupt:
        if curve.training_seconds() <= max_seconds:
            raise
        logger.info(f"stopped after {arguments.minutes:g} minutes of training")
        return
    origin = Origin(
        label=arguments.label.upper(),
        source=source,
        images=len(images),
        images_sha256=sha256_of_array(images),
        training=settings.model_dump(mode="json"),
    )
    path = ROOT / "models" / "curves" / f"{arguments.name}.pt"
    save_generator(path, result.generator, origin)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning_curve", description=__doc__
    )
    parser.add_argument("name", help="of the files that it writes")
    parser.add_argument("--class", dest="label", choices=("normal", "pneumonia"), required=True)
    parser.add_argument("--networks", help="a file of networks/; else those of params.yaml")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judge", choices=("held-out", "test"), default="held-out")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so much training")
    parser.add_argument("--weights", type=Path, help="of the Inception network; else downloaded")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of train.CLASS")
    arguments = parser.parse_args(argv)
    return report_errors(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
