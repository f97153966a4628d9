"""The objective of a trial: a short training, scored on train patients that it has not seen.

The test split is never touched. The score is the excess of the MMD of ``metrics.mmd``:
(MMD - floor) / (MMD of the other class - floor). 0 means real images of the class, 1 means images
of the wrong class. It is not the excess of the Fréchet distance, which falls when a generator's
spread shrinks: it has fewer images than features. As many generated images as real ones are
compared, and every trial draws them from the same noise.
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
from ..data.patients import Indices, Patients
from ..metrics.excess import excess
from ..metrics.intervals import Interval, jackknife_interval
from ..metrics.kid_prdc import Comparison
from ..metrics.scores import FeatureSample, compare
from ..metrics.thumbnails import thumbnails
from ..models.networks import Generator
from ..models.sampling import generate
from ..training.collapse import all_finite
from ..training.loop import Safeguards, TrainingCallbacks, train

Images = NDArray[np.uint8]
Extract = Callable[[Images], NDArray[np.float32]]
OBJECTIVE = "mmd"  # in the studies' names, since scores of two objectives are not comparable
FLOOR_SIZE = 3  # train images that the floor rests on, for each held-out one
HALVES = 64  # of the images, that the interval of an excess rests on
FEWEST = 4  # held-out images of a class that can judge
ENDLESS = 10**9  # epochs: the budget ends a trial, never the schedule


class TrialError(Exception):
    """A trial has no score: it diverged, ran out of memory, or its settings are contradictory."""


@dataclass(frozen=True)
class Split:
    """Train images that trials may learn from, and those of other patients that score them."""

    train: Mapping[str, ImageSet]  # by class
    held_out: Mapping[str, ImageSet]  # by class, as many images of each


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
    held_out = {label: train[label].take(np.sort(rows[:size])) for label, rows in out.items()}
    return Split(kept, held_out)


@dataclass(frozen=True)
class Score:
    """Distances of generated images to as many real ones."""

    mmd: float  # of ``metrics.mmd``
    excess: float  # of the MMD, by which the search ranks
    interval: Interval | None  # of the excess at this number of images; None for too few patients
    frechet_distance: float  # for comparison with the literature

    def as_dict(self) -> dict[str, float]:
        """Return the numbers by name, without a missing interval."""
        interval = self.interval
        edges = {"excess_low": interval.low, "excess_high": interval.high} if interval else {}
        numbers = {"mmd": self.mmd, "frechet_distance": self.frechet_distance}
        return {"excess": self.excess, **edges, **numbers}


@dataclass(frozen=True)
class TrialScorer:
    """Scores generators of one class against held-out real images of that class."""

    extract: Extract  # features of generated images
    real: FeatureSample  # held-out images
    to_train: Comparison  # of the held-out images with real train images of other patients
    train_patients: Patients  # of those train images
    floor: float  # MMD of those train images
    other_class: float  # MMD of the other class's real images
    seed: int

    @classmethod
    def of_class(
        cls,
        label: str,
        split: Split,
        of_real: Extract,
        of_generated: Extract,
        seed: int,
    ) -> "TrialScorer":
        """Make the scorer of one class, which measures its floor and the other class's MMD.

        Args:
            label: the class.
            split: the real images.
            of_real: extracts features of real images; it may cache them.
            of_generated: extracts features of generated images.
            seed: of the floor's draw, the noise and the interval's halves.

        Raises:
            UserError: if the other class is no farther away than the floor, so that the features
                cannot tell the classes apart.
        """

        def sample(part: ImageSet) -> FeatureSample:
            return FeatureSample(of_real(part.images), part.patients, thumbnails(part.images))

        train = split.train[label]
        (other,) = (part for name, part in split.held_out.items() if name != label)
        real = sample(split.held_out[label])
        # The floor: train images of other patients than the held-out ones.
        rng = numpy_stream(Stream.TUNE_FLOOR, seed, CLASSES.index(label))
        apart = sample(train.take(train.patients.draw(FLOOR_SIZE * len(real), rng)))
        to_train = _compare(real, apart)
        floor, other_class = (
            part.score("mmd") for part in (to_train, _compare(real, sample(other)))
        )
        if other_class <= floor:
            raise UserError(
                "the features do not tell the classes apart, fid.extractor: the other class has "
                f"an MMD of {other_class:.3g}, other patients of the same class "
                f"{floor:.3g}; set fid.extractor to a better one"
            )
        return cls(of_generated, real, to_train, apart.patients, floor, other_class, seed)

    @property
    def images(self) -> int:
        """Number of real images, and of generated ones that are compared with them."""
        return len(self.real)

    def score(self, generator: Generator) -> tuple[Score, Images]:
        """Score a generator and return its images too, uint8 (n, size, size).

        Raises:
            TrialError: if its weights are not finite.
        """
        if not all_finite((generator,)):
            raise TrialError("the training has diverged: the weights are not finite numbers")
        images = generate(generator, integer_seed(Stream.TUNE_GENERATED, self.seed), self.images)
        return self.score_images(images), images

    def score_images(self, images: Images) -> Score:
        """Score images, uint8 (n, size, size)."""
        fake = FeatureSample.of_singletons(self.extract(images), thumbnails(images))
        between = _compare(self.real, fake)
        mmd = between.score("mmd")
        return Score(mmd, self.excess(mmd), self._interval(between, fake), between.score("frechet"))

    def excess(self, mmd: float) -> float:
        """Return (MMD - floor) / (MMD of the other class - floor)."""
        share = excess(mmd, self.floor, self.other_class)
        assert share is not None  # ``of_class`` refuses other features
        return share

    def _interval(self, between: Comparison, fake: FeatureSample) -> Interval | None:
        """Compute the interval of the excess, from halves of the real and generated images.

        The floor is halved along, since it depends on the same held-out images. The MMD of the
        other class is only the unit.
        """
        if not (self.real.can_be_halved and fake.can_be_halved):
            return None
        rng = numpy_stream(Stream.TUNE_INTERVAL, self.seed)

        def of_halves(real: Indices, generated: Indices) -> float:
            apart = self.to_train.score("mmd", real, self.train_patients.half(rng))
            distance = between.score("mmd", real, generated) - apart
            return distance / (self.other_class - self.floor)

        value = self.excess(between.score("mmd"))
        patients = self.real.patients, fake.patients
        return jackknife_interval(value, of_halves, *patients, HALVES, rng)


def _compare(real: FeatureSample, other: FeatureSample) -> Comparison:
    """Compare two sets by distances alone, which need no neighbours."""
    return compare(real, other, nearest_k=1)


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

    callbacks = TrainingCallbacks(
        on_step=on_step, on_generator=on_generator, should_stop=should_stop
    )
    try:
        train(images, schedule, compute, callbacks, Safeguards(collapse_patience=collapse_patience))
    except _BudgetSpentError:
        pass
    except UserError as error:
        raise TrialError(str(error)) from error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrialError("there was not enough memory") from error
