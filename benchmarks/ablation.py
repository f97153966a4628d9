"""What each choice of the training brings to variety and distance, one change at a time.

`python -m benchmarks.ablation NAME --class normal [--networks real] [--epochs N] [--seeds 3]`
trains with the parameters, and with each of ``CHANGES`` to them, on the arrays that `dvc repro
preprocess` made. As in a search, patients of the train split that are not learnt from judge, by the
excess of the MMD. The variety is that of equally many generated and train images. Writes
reports/benchmarks/NAME.csv, a row for each training; rows that are there are kept.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.workspace import ROOT
from src.common.devices import choose_compute
from src.common.errors import report_errors
from src.common.logging import logger
from src.common.outputs import write_table
from src.common.progress import Progress
from src.common.rng import Stream, integer_seed
from src.config.presets import preset_names, preset_overrides
from src.config.settings import ClassName, Settings, load_settings
from src.data.dataset import train_sets
from src.metrics.scores import FeatureSample
from src.metrics.variety import score_variety
from src.models.networks import Generator
from src.models.sampling import generate
from src.training.loop import TrainingCallbacks, train
from src.tuning.objective import hold_out
from src.tuning.worker import make_scorer

MAX_IMAGES = 500  # whose variety is measured
# A change of one choice, by what the table calls it. Those that change nothing are left out.
CHANGES: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "exposure learned": ("generator.exposure=learned",),
    "exposure drawn": ("generator.exposure=drawn",),
    "binary cross-entropy": ("loss=bce",),
    "relativistic": ("loss=relativistic",),
    "brightness and contrast too": ("augmentation=[brightness,contrast,translation]",),
    "augmentation at full strength": ("augmentation_strength=1.0",),
    "augmentation at a quarter": ("augmentation_strength=0.25",),
    "no augmentation": ("augmentation=[]",),
    "EMA 0.99": ("ema_decay=0.99",),
    "EMA 0.999": ("ema_decay=0.999",),
    "half-life 10,500": ("optimizer.learning_rate_half_life=10500",),
    "gradient penalty 1": ("gradient_penalty=1.0",),
    "batches of 16": ("batch_size=16",),
    "latent of 64": ("generator.latent_dim=64",),
}


class Judge:
    """Held-out real images of a class, and what scores a generator by them."""

    def __init__(self, settings: Settings, name: ClassName) -> None:
        tune = settings.tune
        split = hold_out(train_sets(), tune.held_out_fraction, tune.max_images, tune.seed)
        device = choose_compute(settings.compute).device
        self.images, self._scorer = make_scorer(name, split, settings, ROOT, device)
        patients = split.train[name.upper()].patients
        self._train = FeatureSample(self._scorer.extract(self.images), patients)

    def scores(self, generator: Generator) -> dict[str, float]:
        """Compute the distances of a generator, and its variety."""
        score, _ = self._scorer.score(generator)
        count = min(MAX_IMAGES, len(self.images))
        seed = self._scorer.seed
        stream = integer_seed(Stream.TUNE_GENERATED, seed)
        drawn = generate(generator, stream, count, start=self._scorer.images)
        features = self._train, FeatureSample.of_singletons(self._scorer.extract(drawn))
        variety = score_variety(self.images, drawn, features, count, seed)
        return score.as_dict() | {
            part.measure: np.nan if part.value is None else part.value for part in variety
        }


def variants(
    name: ClassName, base: Sequence[str], seeds: int
) -> Iterator[tuple[str, int, Settings]]:
    """Yield the change, seed and settings of each training."""
    plain = load_settings(ROOT / "params.yaml", base).train_of(name)
    for seed in range(plain.seed, plain.seed + seeds):
        for change, keys in CHANGES.items():
            overrides = [*base, *(f"train.{name}.{key}" for key in (*keys, f"seed={seed}"))]
            settings = load_settings(ROOT / "params.yaml", overrides)
            is_same = settings.train_of(name).model_copy(update={"seed": plain.seed}) == plain
            if not keys or not is_same:
                yield change, seed, settings


def run(arguments: argparse.Namespace) -> None:
    """Train and score every variant that the table does not have yet."""
    name: ClassName = arguments.label
    base = preset_overrides(arguments.networks, name) if arguments.networks else []
    base += [f"train.{name}.samples.epochs=[]"]
    if arguments.epochs:
        base += [f"train.{name}.epochs={arguments.epochs}"]
    file = ROOT / "reports" / "benchmarks" / f"{arguments.name}.csv"
    rows: list[dict[str, Any]] = pd.read_csv(file).to_dict("records") if file.exists() else []
    done = {(row["class"], row["change"], row["seed"]) for row in rows}
    judge = Judge(load_settings(ROOT / "params.yaml", base), name)
    for change, seed, settings in variants(name, base, arguments.seeds):
        if (name, change, seed) in done:
            continue
        chosen = settings.train_of(name)
        batches = len(judge.images) // chosen.batch_size
        total = chosen.epochs * batches * chosen.batch_size
        with Progress(f"{name}, {change}, seed {seed}", total, "images") as progress:
            callbacks = TrainingCallbacks(on_step=progress.advance)
            result = train(judge.images, chosen, choose_compute(settings.compute), callbacks)
        row = {"class": name, "change": change, "seed": seed, "images": total}
        rows.append(row | judge.scores(result.generator))
        write_table(file, pd.DataFrame(rows).round(4))
        logger.info(f"{change}, seed {seed}: excess {rows[-1]['excess']:.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("name", help="of the table")
    parser.add_argument("--class", dest="label", choices=["normal", "pneumonia"], default="normal")
    parser.add_argument("--networks", choices=preset_names(), help="a file of networks/")
    parser.add_argument("--epochs", type=int, help="of each training")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each change")
    arguments = parser.parse_args(argv)
    return report_errors(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
