"""What a trial is judged by: a short training, scored on train patients that it has not seen.

The test split is never touched. The score is the excess of ``scores.class_scores``: how far the
Fréchet distance to the held-out images lies above its floor, as a share of how far the other class
does; 0 would be real images, 1 the wrong class. As many generated as real images are compared, from
a noise that is the same for every trial.
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
from ..training.loop import Safeguards, TrainingCallbacks, train

Images = NDArray[np.uint8]
Extract = Callable[[Images], NDArray[np.float32]]
FLOOR_DRAWS = 3  # draws of train images that the floor is the mean of
FEWEST = 4  # held-out images of a class that can judge
ENDLESS = 10**9  # epochs; the budget ends a trial
SPLIT, DRAWS, NOISE = range(3)  # streams of randomness, told apart by the second number of keys


class TrialError(Exception):
    """A trial that gave no score, and why: it diverged, found no memory, or made no sense."""


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
    """How far generated images are from real ones."""

    distance: float
    excess: float


@dataclass(frozen=True)
class Judge:
    """Real images of a class that no trial has seen, and what they make of generated ones."""

    extract: Extract  # features of generated images
    real: FeatureSet
    images: int  # of each side
    floor: float  # distance of train images of other patients
    other_class: float
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
    ) -> "Judge":
        """The judge of the first (0) or second (1) class.

        Args:
            number: of the class.
            split: the real images.
            of_real: features of real images, which may be kept for the next judge.
            of_generated: features of generated images.
            seed: names the draws and the noise.
            device: where images are generated.

        Raises:
            UserError: if the features do not tell the classes apart better than chance.
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
                f"these features put the other class ({other_class:.3g}) no farther away than "
                f"other patients of the same one ({floor:.3g}); set fid.extractor to a better one"
            )
        return cls(of_generated, real, size, floor, other_class, seed, device)

    def score(self, generator: Generator) -> tuple[Score, Images]:
        """Judge a generator; its images are uint8 (n, size, size).

        Raises:
            TrialError: if its weights are no numbers.
        """
        if not all_finite((generator,)):
            raise TrialError("the training has diverged: the weights are not finite numbers")
        stream = random_stream(torch.device("cpu"), self.seed, NOISE)
        noise = torch.randn((self.images, generator.settings.latent_dim), generator=stream)
        images = generate(generator, noise.to(self.device))
        distance = frechet_distance(FeatureSet(self.extract(images)), self.real)
        return Score(distance, self.excess(distance)), images

    def excess(self, distance: float) -> float:
        """How far above the floor, as a share of how far the other class is."""
        return (distance - self.floor) / (self.other_class - self.floor)


@dataclass(frozen=True)
class Budget:
    """How long a trial may train, and how often it is scored."""

    amount: float
    unit: Literal["seconds", "images"]
    checks: int


@dataclass(frozen=True)
class Check:
    """One score of a trial."""

    number: int  # from 1; the last one counts
    score: Score
    images: Images  # generated, uint8 (n, size, size)
    seen: int  # real images that were trained on
    seconds: float  # of training


class _SpentError(Exception):
    """The budget is used up."""


def run_trial(
    images: Images,
    settings: TrainSettings,
    compute: Compute,
    judge: Judge,
    budget: Budget,
    collapse_batches: int,
    on_check: Callable[[Check], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train within a budget; each score is told.

    Args:
        images: to train on, uint8 (n, size, size).
        settings: of the training; its epochs do not count.
        compute: what to train on.
        judge: scores the generator.
        budget: when, and when to end.
        collapse_batches: that count as a collapse, see ``Safeguards``.
        on_check: told each score; what it raises ends the trial.
        should_stop: asked after each batch.

    Raises:
        KeyboardInterrupt: if it is to stop.
        TrialError: if there is nothing to score.
    """
    schedule = settings.model_copy(
        update={
            "epochs": ENDLESS,
            "samples": settings.samples.model_copy(update={"epochs": ()}),
        }
    )
    seen, done, aside = 0, 0, 0.0
    start = time.perf_counter()

    def on_step(batch: int) -> None:
        nonlocal seen
        seen += batch

    def on_generator(generator: Generator) -> None:
        nonlocal done, aside
        now = time.perf_counter()
        seconds = now - start - aside
        used = seconds if budget.unit == "seconds" else seen
        if used < budget.amount * (done + 1) / budget.checks:
            return
        done += 1
        score, drawn = judge.score(generator)
        on_check(Check(done, score, drawn, seen, seconds))
        if done == budget.checks:
            raise _SpentError
        aside += time.perf_counter() - now

    callbacks = TrainingCallbacks(
        on_step=on_step, on_generator=on_generator, should_stop=should_stop
    )
    try:
        train(images, schedule, compute, callbacks, Safeguards(collapse_patience=collapse_batches))
    except _SpentError:
        pass
    except UserError as error:
        raise TrialError(str(error)) from error
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise TrialError("there was not enough memory") from error
