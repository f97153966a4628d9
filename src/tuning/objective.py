"""The objective of a trial: a short training, scored on train patients that it has not seen.

The test split is never touched. The score is the excess of the Fréchet distance, as in
``metrics.scores``: (distance - floor) / (distance of the other class - floor). 0 means real images
of the class, 1 means images of the wrong class. As many generated images as real ones are compared,
and every trial draws them from the same noise.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.devices import Compute
from ..common.errors import UserError, lacks_memory
from ..common.rng import random_stream
from ..config.train import TrainSettings
from ..data.patients import Patients
from ..metrics.frechet import FeatureSet, frechet_distance
from ..models.networks import Generator
from ..models.sampling import generate
from ..training.collapse import all_finite
from ..training.loop import Observer, Safeguards, train

Images = NDArray[np.uint8]
Extract = Callable[[Images], NDArray[np.float32]]
FLOOR_DRAWS = 3  # sets of train images whose mean distance is the floor
FEWEST = 4  # held-out images of a class that can judge
ENDLESS = 10**9  # epochs: the budget ends a trial, never the schedule
SPLIT, DRAWS, NOISE = range(3)  # streams of randomness, told apart by the second number of keys


class TrialError(Exception):
    """A trial has no score: it diverged, ran out of memory, or its settings are contradictory."""


@dataclass(frozen=True)
class Split:
    """Train images of both classes that trials may learn from, and those that judge them."""

    images: tuple[Images, Images]
    patients: tuple[list[str], list[str]]
    held_out: tuple[Images, Images]  # as many of both classes


def hold_out(
    images: tuple[Images, Images],
    patients: tuple[Sequence[str], Sequence[str]],
    share: float,
    most: int,
    seed: int,
) -> Split:
    """Set random patients of the train split aside, with about ``share`` of the images.

    Args:
        images: of both classes, uint8 (n, size, size).
        patients: of each image.
        share: of each class's images.
        most: held-out images of a class at most; the rest of their patients' are left out.
        seed: names the draws.

    Raises:
        UserError: if too few images are left on a side.
    """
    kept: list[NDArray[np.int64]] = []
    out: list[NDArray[np.int64]] = []
    for number, names in enumerate(patients):
        rng = np.random.default_rng([seed, SPLIT, number])
        whose = Patients.named(names).numbers
        order = rng.permutation(whose.max() + 1)
        ends = np.cumsum(np.bincount(whose)[order])
        chosen = order[: 1 + int(np.searchsorted(ends, share * len(names)))]
        aside = np.isin(whose, chosen)
        kept.append(np.flatnonzero(~aside))
        out.append(rng.permutation(np.flatnonzero(aside)))
    size = min(most, *map(len, out))
    if size < FEWEST or min(map(len, kept)) < size:
        raise UserError(
            f"tune.held_out_fraction: {size} train images of other patients are too few to judge "
            "by; take a larger share, or more data"
        )
    return Split(
        images=(images[0][kept[0]], images[1][kept[1]]),
        patients=_names(patients, kept),
        held_out=(images[0][np.sort(out[0][:size])], images[1][np.sort(out[1][:size])]),
    )


def _names(
    patients: tuple[Sequence[str], Sequence[str]], rows: Sequence[NDArray[np.int64]]
) -> tuple[list[str], list[str]]:
    first, second = (
        [names[row] for row in part] for names, part in zip(patients, rows, strict=True)
    )
    return first, second


@dataclass(frozen=True)
class Score:
    """The Fréchet distance of generated images to real ones, and its excess over the floor."""

    distance: float
    excess: float


@dataclass(frozen=True)
class TrialScorer:
    """Scores generators of one class against held-out real images of that class."""

    extract: Extract  # features of generated images
    real: FeatureSet  # of the held-out images
    images: int  # real ones, and as many generated ones
    floor: float  # mean distance of real train images of other patients
    other_class: float  # distance of the other class's real images
    seed: int
    device: torch.device

    @classmethod
    def of_class(
        cls,
        number: int,
        split: Split,
        of_real: Extract,
        of_generated: Extract,
        seed: int,
        device: torch.device,
    ) -> "TrialScorer":
        """Make the scorer of one class, which measures its floor and the other class's distance.

        Args:
            number: the class, 0 or 1.
            split: the real images.
            of_real: extracts features of real images; it may cache them.
            of_generated: extracts features of generated images.
            seed: of the floor's draws and of the noise.
            device: where images are generated.

        Raises:
            UserError: if the other class is no farther away than the floor, so that the features
                cannot tell the classes apart.
        """
        held_out, other = split.held_out[number], split.held_out[1 - number]
        size = len(held_out)
        real = FeatureSet(of_real(held_out))
        rng = np.random.default_rng([seed, DRAWS, number])
        draws = min(FLOOR_DRAWS, len(split.images[number]) // size)
        rows = rng.permutation(len(split.images[number]))[: draws * size]
        features = of_real(split.images[number][rows])
        floor = float(
            np.mean(
                [
                    frechet_distance(FeatureSet(features[i * size : (i + 1) * size]), real)
                    for i in range(draws)
                ]
            )
        )
        other_class = frechet_distance(FeatureSet(of_real(other)), real)
        if other_class <= floor:
            raise UserError(
                "the features do not tell the classes apart, fid.extractor: the other class has "
                f"a distance of {other_class:.3g}, other patients of the same class "
                f"{floor:.3g}; set fid.extractor to a better one"
            )
        return cls(of_generated, real, size, floor, other_class, seed, device)

    def score(self, generator: Generator) -> tuple[Score, Images]:
        """Score a generator and return its images too, uint8 (n, size, size).

        Raises:
            TrialError: if its weights are not finite.
        """
        if not all_finite((generator,)):
            raise TrialError("the training has diverged: the weights are not finite numbers")
        stream = random_stream(torch.device("cpu"), self.seed, NOISE)
        noise = torch.randn((self.images, generator.settings.latent_dim), generator=stream)
        images = generate(generator, noise.to(self.device))
        distance = frechet_distance(FeatureSet(self.extract(images)), self.real)
        return Score(distance, self.excess(distance)), images

    def excess(self, distance: float) -> float:
        """Return (distance - floor) / (distance of the other class - floor)."""
        return (distance - self.floor) / (self.other_class - self.floor)


@dataclass(frozen=True)
class Budget:
    """How long a trial trains and how often it is scored on the way."""

    amount: float
    unit: Literal["seconds", "images"]
    evaluations: int  # evenly spread; the last one ends the trial


@dataclass(frozen=True)
class Evaluation:
    """One of a trial's scores."""

    number: int  # from 1; the last one is the trial's result
    score: Score
    images: Images  # generated, uint8 (n, size, size)
    images_seen: int  # real images of all training batches so far
    seconds: float  # of training, without the evaluations


class _BudgetSpentError(Exception):
    """The budget is used up, so the training ends."""


def run_trial(
    images: Images,
    settings: TrainSettings,
    compute: Compute,
    scorer: TrialScorer,
    budget: Budget,
    collapse_patience: int,
    on_evaluation: Callable[[Evaluation], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train within a budget and score the generator at even intervals.

    Args:
        images: train images, uint8 (n, size, size).
        settings: of the training; its epochs and sample grids are ignored.
        compute: the device and precision.
        scorer: scores the generator.
        budget: the length of the training and the number of evaluations.
        collapse_patience: batches in a row with a sign of collapse that end the training.
        on_evaluation: called with each evaluation; an exception that it raises ends the trial.
        should_stop: asked after each batch.

    Raises:
        KeyboardInterrupt: if ``should_stop`` returns true.
        TrialError: if the training diverges, lacks memory or cannot start.
    """
    samples = settings.samples.model_copy(update={"epochs": ()})
    schedule = settings.model_copy(update={"epochs": ENDLESS, "samples": samples})
    images_seen, evaluated, paused = 0, 0, 0.0  # paused: seconds spent in evaluations
    start = time.perf_counter()

    def on_step(batch_size: int) -> None:
        nonlocal images_seen
        images_seen += batch_size

    def on_generator(generator: Generator) -> None:
        nonlocal evaluated, paused
        now = time.perf_counter()
        seconds = now - start - paused
        used = seconds if budget.unit == "seconds" else images_seen
        if used < budget.amount * (evaluated + 1) / budget.evaluations:
            return
        evaluated += 1
        score, drawn = scorer.score(generator)
        on_evaluation(Evaluation(evaluated, score, drawn, images_seen, seconds))
        if evaluated == budget.evaluations:
            raise _BudgetSpentError
        paused += time.perf_counter() - now

    observer = Observer(on_step=on_step, on_generator=on_generator, should_stop=should_stop)
    try:
        train(images, schedule, compute, observer, Safeguards(collapse_batches=collapse_patience))
    except _BudgetSpentError:
        pass
    except UserError as error:
        raise TrialError(str(error)) from error
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise TrialError("there was not enough memory") from error
