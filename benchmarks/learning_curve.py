"""How the Fréchet distance falls as a training of one class goes on: against images and time.

`python -m benchmarks.learning_curve NAME --class normal [--networks thesis] [--set KEY=VALUE ...]`
trains on the arrays that `dvc repro preprocess` made and scores as many generated images as there
are real ones to judge by, with 768 features of the Inception network. Settings are chosen by
`--judge held-out`, which keeps patients of the train split from the training; `--judge test` is for
the end. The seconds are those of the training alone. Writes NAME.csv, NAME.json and NAME.png
(generated images) to reports/kermany, and the generator of a whole training to
models/curves/NAME.pt.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.workspace import ROOT, processor
from src.common.devices import choose_compute
from src.common.errors import UserError, report_errors
from src.common.files import sha256_of_array, write_file, write_json
from src.common.logging import logger
from src.common.outputs import read_array, write_table
from src.common.paths import array_path
from src.common.progress import Progress
from src.config.presets import preset_names, preset_overrides
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
from src.training.loop import Observer, steps_per_epoch, train

Images = NDArray[np.uint8]
FOLDER = ROOT / "reports" / "kermany"
DIMS = 768
BATCH = 39  # of the extractor; both sizes of Kermany's test split are its multiples
COLUMNS = 26  # of the sample grids, whose images are judged
HELD_OUT = 234  # images at least, of whole patients
SHOWN, SHOWN_COLUMNS = 48, 16  # generated images in the picture
FIRST, GROWTH = 15_000, 1.5  # images until the first score, and between the scores


@dataclass(frozen=True)
class Judge:
    """Real images that the generated ones are compared with."""

    extractor: InceptionExtractor
    device: torch.device
    real: FeatureSet

    def score(self, images: Images) -> float:
        """The Fréchet distance of images to the real ones."""
        return frechet_distance(_features(self.extractor, images, self.device), self.real)


def _features(extractor: InceptionExtractor, images: Images, device: torch.device) -> FeatureSet:
    return FeatureSet(extract_features(extractor, images, BATCH, device))


def split_by_patient(images: Images, patients: Patients, least: int) -> tuple[Images, Images]:
    """The images to train on and the held-out ones, those of the last patients by name.

    ``least`` images are held out, and the rest of their patients' images are left aside.
    """
    names, places, counts = np.unique(patients.ids, return_inverse=True, return_counts=True)
    # Patients from the end until there are enough images.
    last = len(names) - np.searchsorted(np.cumsum(counts[::-1]), least) - 1
    out = places >= last
    return images[~out], images[out][:least]


def epochs_to_score(settings: TrainSettings, steps: int) -> list[int]:
    """Epochs at which the images seen have grown by GROWTH, and the last."""
    each = steps * settings.batch_size
    epochs: list[int] = []
    images = float(FIRST)
    while images < settings.epochs * each:
        epochs.append(max(round(images / each), 1))
        images *= GROWTH
    return sorted({*epochs, settings.epochs})


def run(arguments: argparse.Namespace) -> None:
    """Train, score and write."""
    name: ClassName = arguments.label
    overrides = preset_overrides(arguments.networks, name) if arguments.networks else []
    overrides += [f"train.{name}.{item}" for item in (*arguments.set, f"seed={arguments.seed}")]
    settings = load_settings(ROOT / "params.yaml", overrides)
    compute = choose_compute(settings.compute)
    train_set = train_sets()[name.upper()]
    images = train_set.images
    if arguments.judge == "held-out":
        images, judging = split_by_patient(images, train_set.patients, HELD_OUT)
    else:
        judging = read_array(array_path(name, "test"))
    if len(judging) % COLUMNS:
        raise UserError(f"{len(judging)} images to judge by are not a multiple of {COLUMNS}")
    weights = arguments.weights or download_inception()
    extractor = load_inception(weights, DIMS, compute.device)
    judge = Judge(extractor, compute.device, _features(extractor, judging, compute.device))
    others = np.random.default_rng(0).permutation(len(images))[: len(judging)]
    floor = judge.score(images[np.sort(others)])
    logger.info(
        f"{len(images)} images to train on, {len(judging)} to judge by; they are {floor:.3f} apart"
    )

    chosen = settings.train_of(name)
    steps = steps_per_epoch(len(images), chosen.batch_size)
    samples = chosen.samples.model_copy(
        update={
            "epochs": tuple(epochs_to_score(chosen, steps)),
            "rows": len(judging) // COLUMNS,
            "columns": COLUMNS,
        }
    )
    chosen = chosen.model_copy(update={"samples": samples})
    rows: list[dict[str, float]] = []
    start, aside = time.perf_counter(), 0.0

    def trained() -> float:
        return time.perf_counter() - start - aside

    def on_samples(epoch: int, drawn: Images) -> None:
        nonlocal aside
        seconds, begin = trained(), time.perf_counter()
        row = {
            "epoch": epoch,
            "images": epoch * steps * chosen.batch_size,
            "seconds": round(seconds, 1),
            "fid": round(judge.score(drawn), 4),
        }
        rows.append(row)
        logger.info(
            f"{arguments.name}: {row['images']} images, {seconds:.0f} s: distance {row['fid']:.3f}"
        )
        write_table(FOLDER / f"{arguments.name}.csv", pd.DataFrame(rows))
        grid = tile(drawn[:SHOWN], SHOWN_COLUMNS)
        write_file(FOLDER / f"{arguments.name}.png", png(grid))
        aside += time.perf_counter() - begin

    stop_after = 60 * arguments.minutes
    progress = Progress(f"train {name}", chosen.epochs * steps * chosen.batch_size, "images")
    observer = Observer(
        on_step=progress.advance,
        on_samples=on_samples,
        should_stop=lambda: trained() > stop_after,
    )
    try:
        with progress:
            result = train(images, chosen, compute, observer)
        origin = Origin(
            label=name.upper(),
            source=settings.data.source,
            images=len(images),
            images_sha256=sha256_of_array(images),
            training=chosen.model_dump(mode="json"),
        )
        path = ROOT / "models" / "curves" / f"{arguments.name}.pt"
        save_generator(path, result.generator, origin)
    except KeyboardInterrupt:
        if trained() <= stop_after:
            raise
        logger.info(f"stopped after {arguments.minutes:g} minutes of training")
    write_json(
        FOLDER / f"{arguments.name}.json",
        {
            "command": "python -m benchmarks.learning_curve " + " ".join(sys.argv[1:]),
            "class": name,
            "seed": arguments.seed,
            "judge": arguments.judge,
            "images_to_train_on": len(images),
            "images_to_judge_by": len(judging),
            "real_train_against_judge": floor,
            "features": f"inception, {DIMS}",
            "machine": {"processor": processor(), **compute.describe()},
            "parameters": flatten(settings.train_of(name)),
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning_curve", description=__doc__
    )
    parser.add_argument("name", help="of the files that it writes")
    parser.add_argument("--class", dest="label", choices=("normal", "pneumonia"), required=True)
    parser.add_argument("--networks", choices=preset_names(), help="else those of params.yaml")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judge", choices=("held-out", "test"), default="held-out")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so much training")
    parser.add_argument("--weights", type=Path, help="of the Inception network; else downloaded")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of train.CLASS")
    arguments = parser.parse_args(argv)
    return report_errors(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
