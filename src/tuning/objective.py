"""What a trial is judged by: a short training, scored on train patients that it has not seen.

The test split is never touched. The score is the excess of ``scores.class_scores``: how far the
Fréchet distance to the held-out images lies above its floor, as a share of how far the other class
does; 0 would be real images, 1 the wrong class. As many generated as real images are compared, from
a noise that is the same for every trial.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..common.devices import Compute
from ..common.errors import UserError, is_out_of_memory
from ..common.rng import Stream, integer_seed, numpy_stream
from ..config.train import TrainSettings
from ..data.classes import CLASSES
from ..data.dataset import ImageSet
from ..metrics.frechet import FeatureSet, frechet_distance
from ..metrics.scores import excess
from ..models.networks import Generator
from ..models.sampling import generate
from ..training.collapse import all_finite
from ..training.loop import Observer, Safeguards, train

Images = NDArray[np.uint8]
Extract = Callable[[Images], NDArray[np.float32]]
FLOOR_DRAWS = 3  # draws of train images that the floor is the mean of
FEWEST = 4  # held-out images of a class that can judge
ENDLESS = 10**9  # epochs; the budget ends a trial


class TrialError(Exception):
    """A trial that gave no score, and why: it diverged, found no memory, or made no sense."""


@dataclass(frozen=True)
class Split:
    """Train images that trials may learn from, and those of other patients that score them."""

    train: Mapping[str, ImageSet]  # by class
    held_out: Mapping[str, Images]  # by class, as many of each


def hold_out(train: Mapping[str, ImageSet], fraction: float, most: int, seed: int) -> Split:
    """Hold out random patients of the train split, with about ``fraction`` of its images.

    Args:
        train: the train images of each class.
        fraction: of each class's images that are held out.
        most: held-out images of a class at most; the rest of their patients' are left out.
        seed: of the draws.

    Raises:
        UserError: if too few images are left on a side.
    """
    kept, out = {}, {}
    for number, (label, part) in enumerate(train.items()):
        rng = numpy_stream(Stream.TUNE_HOLD_OUT, seed, number)
        try:
            inside, outside = part.patients.split(fraction, rng)
        except ValueError as error:
            raise UserError(f"the train images of {label}: {error} for a search") from error
        kept[label], out[label] = part.take(inside), rng.permutation(outside)
    size = min(most, *map(len, out.values()))
    if size < FEWEST or min(map(len, kept.values())) < size:
        raise UserError(
            f"tune.held_out_fraction: {size} train images of other patients are too few to judge "
            "by; take a larger share, or more data"
        )
    held_out = {label: train[label].images[np.sort(rows[:size])] for label, rows in out.items()}
    return Split(kept, held_out)


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

    @classmethod
    def of_class(
        cls,
        label: str,
        split: Split,
        of_real: Extract,
        of_generated: Extract,
        seed: int,
    ) -> "Judge":
        """The judge of a class.

        Args:
            label: the class.
            split: the real images.
            of_real: features of real images, which may be kept for the next judge.
            of_generated: features of generated images.
            seed: names the draws and the noise.

        Raises:
            UserError: if the features do not tell the classes apart better than chance.
        """
        held_out, train = split.held_out[label], split.train[label].images
        (other,) = (images for name, images in split.held_out.items() if name != label)
        size = len(held_out)
        real = FeatureSet(of_real(held_out))
        # The floor: train images of other patients than the held-out ones.
        rng = numpy_stream(Stream.TUNE_FLOOR, seed, CLASSES.index(label))
        draws = min(FLOOR_DRAWS, len(train) // size)
        features = of_real(train[rng.permutation(len(train))[: draws * size]])
        parts = [FeatureSet(features[i * size : (i + 1) * size]) for i in range(draws)]
        floor = float(np.mean([frechet_distance(part, real) for part in parts]))
        other_class = frechet_distance(FeatureSet(of_real(other)), real)
        if other_class <= floor:
            raise UserError(
                f"these features put the other class ({other_class:.3g}) no farther away than "
                f"other patients of the same one ({floor:.3g}); set fid.extractor to a better one"
            )
        return cls(of_generated, real, size, floor, other_class, seed)

    def score(self, generator: Generator) -> tuple[Score, Images]:
        """Judge a generator; its images are uint8 (n, size, size).

        Raises:
            TrialError: if its weights are no numbers.
        """
        if not all_finite((generator,)):
            raise TrialError("the training has diverged: the weights are not finite numbers")
        images = generate(generator, integer_seed(Stream.TUNE_GENERATED, self.seed), self.images)
        distance = frechet_distance(FeatureSet(self.extract(images)), self.real)
        return Score(distance, self.excess(distance)), images

    def excess(self, distance: float) -> float:
        """How far above the floor, as a share of how far the other class is."""
        share = excess(distance, self.floor, self.other_class)
        assert share is not None  # ``of_class`` refuses other features
        return share


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
        collapse_batches: that count as a collapse, see ``gan.Safeguards``.
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

    observer = Observer(on_step=on_step, on_generator=on_generator, should_stop=should_stop)
    try:
        train(images, schedule, compute, observer, Safeguards(collapse_batches=collapse_batches))
    except _SpentError:
        pass
    except UserError as error:
        raise TrialError(str(error)) from error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrialError("there was not enough memory") from error
