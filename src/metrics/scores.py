"""Scores of generated images that say how sure they are and what the best possible ones would be.

A score alone says little on a small set: not even real images of other patients would reach 0. So
each stands beside its interval, and beside its floor, which is what those score at the same sample
size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..common.rng import Stream, numpy_stream
from ..config.registry import METRICS
from ..data.patients import Patients
from .frechet import Features, extrapolated_distance
from .intervals import Interval, interval
from .kid_prdc import Comparison, available

FLOOR_DRAWS = 100  # pairs of patient-disjoint draws that a floor is the mean of
SMALLEST = 4  # patients of a set whose halves can be scored
MOST = 0.25  # share of the images that one patient may have, for halves to differ enough


@dataclass(frozen=True)
class FeatureSample:
    """Features of images, float (n, d), and whose they are."""

    features: Features
    patients: Patients

    @classmethod
    def of_singletons(cls, features: Features) -> "FeatureSample":
        """A set in which every image is taken for another patient's."""
        return cls(features, Patients.singletons(len(features)))

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Floor:
    """Scores at a size for which the real set gives two draws without a common patient."""

    n: int  # images in each draw
    floor: float  # real against other patients' real images
    spread: float  # standard deviation of the floor over the draws
    score: float  # real against generated images


@dataclass(frozen=True)
class Score:
    """One score of a generated set against a real one."""

    metric: str
    value: float
    n_real: int
    n_fake: int
    # None where halves of the sets are of too few images or patients, or mostly of one patient's.
    interval: Interval | None
    floor: Floor | None  # None where the real set is too small for two draws
    # Of the Fréchet distance, its limit for ever larger sets; None where that cannot be told.
    infinite: float | None = None

    def numbers(self) -> dict[str, float | None]:
        """The value, its interval and floor by name; None for what cannot be told."""
        around, floor = self.interval, self.floor
        return {
            "value": self.value,
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "standard_error": around.standard_error if around else None,
            "low": around.low if around else None,
            "high": around.high if around else None,
            "floor_n": floor.n if floor else None,
            "floor": floor.floor if floor else None,
            "floor_spread": floor.spread if floor else None,
            "score_at_floor_n": floor.score if floor else None,
        }


def score_sets(
    real: FeatureSample, fake: FeatureSample, neighbours: int, draws: int, seed: int
) -> list[Score]:
    """Every score that the sets are large enough for.

    Args:
        real: real images, two or more.
        fake: generated images, two or more.
        neighbours: k of precision, recall, density and coverage.
        draws: halves that an interval rests on.
        seed: names the draws.

    Raises:
        ValueError: for features of different widths, fewer than two images, or not finite ones.
    """
    between = Comparison(real.features, fake.features, neighbours)
    within = Comparison(real.features, real.features, neighbours)
    smaller = min(len(real), len(fake))
    several = all(
        part.patients.count >= SMALLEST and part.patients.largest_share <= MOST
        for part in (real, fake)
    )
    size = min(real.patients.max_pair_size, len(fake))
    floors = _floors(available(size, neighbours), between, within, (real, fake), size, seed)
    scores = []
    for metric in available(smaller, neighbours):
        value = between.score(metric)
        around = None
        if several and metric in available(smaller // 2, neighbours):
            around = interval(
                value,
                lambda i, j, metric=metric: between.score(metric, i, j),  # type: ignore[misc]
                real.patients,
                fake.patients,
                draws,
                numpy_stream(Stream.SCORE_INTERVAL, seed),
                METRICS[metric].bounds,
            )
        limit = _limit(real, fake, seed) if metric == "frechet" else None
        scores.append(Score(metric, value, len(real), len(fake), around, floors.get(metric), limit))
    return scores


def _limit(real: FeatureSample, fake: FeatureSample, seed: int) -> float | None:
    """The Fréchet distance of ever larger sets; None if these are too small to tell."""
    rng = numpy_stream(Stream.SCORE_EXTRAPOLATION, seed)
    whose = real.patients, fake.patients
    return extrapolated_distance(real.features, fake.features, whose, rng)


def _floors(
    metrics: Sequence[str],
    between: Comparison,
    within: Comparison,
    sets: tuple[FeatureSample, FeatureSample],
    size: int,
    seed: int,
) -> dict[str, Floor]:
    """Compute floors, and the scores at their size, as means over draws.

    The draws of real images have a stream of their own, so that at one size the floor of a real
    set is the same whatever it is compared with.
    """
    if not metrics:
        return {}
    real_draws = numpy_stream(Stream.FLOOR, seed, size)
    fake_draws = numpy_stream(Stream.FLOOR_GENERATED, seed, size)
    floors, scores = [], []
    for _ in range(FLOOR_DRAWS):
        first, second = sets[0].patients.disjoint_pair(size, real_draws)
        floors.append(within.scores(metrics, first, second))
        fake = fake_draws.permutation(len(sets[1]))[:size]
        scores.append(between.scores(metrics, first, fake))
    return {
        metric: Floor(
            size,
            float(np.mean([found[metric] for found in floors])),
            float(np.std([found[metric] for found in floors], ddof=1)),
            float(np.mean([found[metric] for found in scores])),
        )
        for metric in metrics
    }


def excess(distance: float, floor: float, other_class: float) -> float | None:
    """Return how far a distance lies above its floor, as a share of how far the other class does.

    All three at the same number of images: 0 is as near as real images of other patients, 1 as far
    as real images of the other class.

    Returns:
        None if the other class lies no farther away than the floor.
    """
    if other_class <= floor:
        return None
    return (distance - floor) / (other_class - floor)


def class_scores(
    test: Mapping[str, FeatureSample],
    train: Mapping[str, FeatureSample],
    generated: Mapping[str, FeatureSample],
    neighbours: int,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """The scores of two classes' generated images, with what they should be seen beside.

    Args:
        test: real images of both classes that no generator has seen.
        train: real images of both classes to set beside them.
        generated: generated images of both classes.
        neighbours: as for ``score_sets``, like the rest.
        draws: halves that an interval rests on.
        seed: names the draws.

    Returns:
        a row for each class and metric: value, n_real, n_fake, standard_error, low and high;
        floor, floor_spread and score_at_floor_n at floor_n images a side; train_test, the score of
        real train against real test images; for distances train_test_at_floor_n, and other_class,
        the distance of the real classes at floor_n, and excess, how far above its floor the score
        lies as a share of how far the other class does, if that lies above it at all; for the
        Fréchet distance infinite. What cannot be told is NaN.
    """
    rows = []
    first, second = test.values()
    classes = Comparison(first.features, second.features, neighbours)
    for label, real in test.items():
        of_train = Comparison(real.features, train[label].features, neighbours)
        for score in score_sets(real, generated[label], neighbours, draws, seed):
            metric, floor = score.metric, score.floor
            row: dict[str, str | float | None] = {
                "class": label,
                "metric": metric,
                **score.numbers(),
                "train_test": of_train.score(metric)
                if metric in available(len(train[label]), neighbours)
                else None,
                "train_test_at_floor_n": None,
                "other_class": None,
                "excess": None,
                "infinite": score.infinite,
            }
            if floor is not None and METRICS[metric].is_distance:
                if floor.n <= min(len(real), len(train[label])):
                    whose = real.patients, train[label].patients
                    row["train_test_at_floor_n"] = _mean_score(
                        of_train, whose, metric, floor.n, seed
                    )
                if floor.n <= min(map(len, test.values())):
                    whose = first.patients, second.patients
                    other = _mean_score(classes, whose, metric, floor.n, seed)
                    row["other_class"] = other
                    row["excess"] = excess(floor.score, floor.floor, other)
            rows.append({key: np.nan if part is None else part for key, part in row.items()})
    # Whole numbers stay whole where one is missing.
    return pd.DataFrame(rows).astype({"floor_n": "Int64"})


def _mean_score(
    sets: Comparison, whose: tuple[Patients, Patients], metric: str, drawn: int, seed: int
) -> float:
    """The mean score of draws of ``drawn`` images of each of two sets, by patients as a floor's."""
    rng = numpy_stream(Stream.REFERENCE, seed, drawn)
    found = [
        sets.score(metric, *(patients.draw(drawn, rng) for patients in whose))
        for _ in range(FLOOR_DRAWS)
    ]
    return float(np.mean(found))
