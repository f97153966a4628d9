"""Scores of generated images, with their confidence intervals and floors.

On a small set not even real images of other patients have a distance of 0. So each score has a
confidence interval, and a floor: the score of real images of other patients at the same size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..common.rng import Stream, numpy_stream
from ..config.registry import METRICS
from ..data.patients import Patients
from .excess import excess
from .frechet import Features, FeatureSet, extrapolated_distance, frechet_parts
from .intervals import Interval, interval_around, jackknife_interval
from .kid_prdc import Comparison

FLOOR_DRAWS = 100  # pairs of patient-disjoint draws that a floor is the mean of
MIN_PATIENTS = 4  # of a set, for scores of its halves
MAX_PATIENT_SHARE = 0.25  # of the images; with more, halves would differ too little


@dataclass(frozen=True)
class FeatureSample:
    """Features of images, float (n, d), the images' patients and thumbnails."""

    features: Features
    patients: Patients
    thumbnails: Features | None = None  # of ``thumbnails.thumbnails``; None leaves MMD out

    @classmethod
    def of_singletons(
        cls, features: Features, thumbnails: Features | None = None
    ) -> "FeatureSample":
        """Make a set in which each image has a patient of its own."""
        return cls(features, Patients.singletons(len(features)), thumbnails)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def can_be_halved(self) -> bool:
        """Whether halves by patient differ enough for an interval."""
        return (
            self.patients.count >= MIN_PATIENTS and self.patients.largest_share <= MAX_PATIENT_SHARE
        )


def compare(real: FeatureSample, fake: FeatureSample, nearest_k: int) -> Comparison:
    """Compare two sets, with their thumbnails if both have some."""
    images = None
    if real.thumbnails is not None and fake.thumbnails is not None:
        images = real.thumbnails, fake.thumbnails
    return Comparison(real.features, fake.features, nearest_k, images)


@dataclass(frozen=True)
class Floor:
    """Scores at the largest size of two real draws without a common patient."""

    n: int  # images in each draw
    floor: float  # real against other patients' real images
    spread: float  # standard deviation of the floor over the draws
    score: float  # real against generated images
    difference_spread: float  # standard deviation of score - floor over the draws


@dataclass(frozen=True)
class Score:
    """One score of a generated set against a real one."""

    metric: str
    value: float
    n_real: int
    n_fake: int
    # None if halves of the sets have too few images or patients, or mostly one patient's images.
    interval: Interval | None
    floor: Floor | None  # None where the real set is too small for two draws
    # Extrapolation of the Fréchet distance to infinitely many images; None if there is none.
    infinite: float | None = None
    parts: tuple[float, float] | None = None  # of the Fréchet distance, see ``frechet_parts``

    def as_dict(self) -> dict[str, float | None]:
        """Return the value, its interval and floor by name; None for what is missing."""
        interval, floor = self.interval, self.floor
        return {
            "value": self.value,
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "standard_error": interval.standard_error if interval else None,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "floor_n": floor.n if floor else None,
            "floor": floor.floor if floor else None,
            "floor_spread": floor.spread if floor else None,
            "score_at_floor_n": floor.score if floor else None,
        }

    def frechet_as_dict(self) -> dict[str, float | None]:
        """Return what only the Fréchet distance has, by name."""
        means, covariances = self.parts or (None, None)
        return {
            "infinite": self.infinite,
            "means_part": means,
            "covariances_part": covariances,
        }


def score_sets(
    real: FeatureSample, fake: FeatureSample, neighbours: int, draws: int, seed: int
) -> list[Score]:
    """Compute every score for which the sets are large enough.

    Args:
        real: real images, two or more.
        fake: generated images, two or more.
        neighbours: k of precision, recall, density and coverage.
        draws: number of halves that are scored for an interval.
        seed: seed of all draws.

    Raises:
        ValueError: for features of different widths, fewer than two images, or not finite ones.
    """
    between, within = compare(real, fake, neighbours), compare(real, real, neighbours)
    smaller = min(len(real), len(fake))
    # Compute the floors.
    size = min(real.patients.max_pair_size, len(fake))
    metrics = between.available(size)
    floors = _floors(metrics, between, within, (real, fake), size, seed)
    # Compute the scores and their intervals.
    can_halve = real.can_be_halved and fake.can_be_halved
    scores = []
    for metric in between.available(smaller):
        value = between.score(metric)
        interval = None
        if can_halve and metric in between.available(smaller // 2):
            interval = jackknife_interval(
                value,
                lambda i, j, metric=metric: between.score(metric, i, j),  # type: ignore[misc]
                real.patients,
                fake.patients,
                draws,
                numpy_stream(Stream.SCORE_INTERVAL, seed),
                METRICS[metric].bounds,
            )
        limit = parts = None
        if metric == "frechet":
            limit = _limit(real, fake, seed)
            parts = frechet_parts(FeatureSet(real.features), FeatureSet(fake.features))
        sizes = len(real), len(fake)
        scores.append(Score(metric, value, *sizes, interval, floors.get(metric), limit, parts))
    return scores


def _limit(real: FeatureSample, fake: FeatureSample, seed: int) -> float | None:
    """Extrapolate the Fréchet distance to infinitely many images; None for too small sets."""
    rng = numpy_stream(Stream.SCORE_EXTRAPOLATION, seed)
    patients = real.patients, fake.patients
    return extrapolated_distance(real.features, fake.features, patients, rng)


def _floors(
    metrics: Sequence[str],
    between: Comparison,
    within: Comparison,
    sets: tuple[FeatureSample, FeatureSample],
    size: int,
    seed: int,
) -> dict[str, Floor]:
    """Compute floors, and the scores at their size, as means over draws.

    The draws of real images have a random stream of their own. So the floor of a real set at one
    size does not depend on the other set.
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
            float(np.mean([by_metric[metric] for by_metric in floors])),
            float(np.std([by_metric[metric] for by_metric in floors], ddof=1)),
            float(np.mean([by_metric[metric] for by_metric in scores])),
            float(
                np.std([s[metric] - f[metric] for s, f in zip(scores, floors, strict=True)], ddof=1)
            ),
        )
        for metric in metrics
    }


def class_scores(
    test: Mapping[str, FeatureSample],
    train: Mapping[str, FeatureSample],
    generated: Mapping[str, FeatureSample],
    neighbours: int,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Compute the scores of two classes' generated images, with scores to compare them with.

    Args:
        test: real images of both classes that no generator has seen.
        train: real train images of both classes.
        generated: generated images of both classes.
        neighbours: k of precision, recall, density and coverage.
        draws: number of halves that are scored for an interval.
        seed: seed of all draws.

    Returns:
        a row for each class and metric, with NaN for what cannot be computed. Columns: value,
        n_real, n_fake, standard_error, low and high; floor, floor_spread and score_at_floor_n, at
        floor_n images a side; train_test, the score of real train against real test images. Of
        distances also train_test_at_floor_n; other_class, the distance of the two real classes at
        floor_n; and excess, see ``excess.excess``, with the interval excess_low to excess_high of
        the expected excess at floor_n images. Of the Fréchet distance also infinite, the
        extrapolation to infinitely many images, and its two parts, means_part and
        covariances_part.
    """
    first, second = test.values()
    classes = compare(first, second, neighbours)
    rows = []
    for label, real in test.items():
        of_train = compare(real, train[label], neighbours)
        for score in score_sets(real, generated[label], neighbours, draws, seed):
            # Enter the score, and that of the real train images.
            metric, floor = score.metric, score.floor
            row: dict[str, str | float | None] = {
                "class": label,
                "metric": metric,
                **score.as_dict(),
                "train_test": of_train.score(metric)
                if metric in of_train.available(len(train[label]))
                else None,
                "train_test_at_floor_n": None,
                "other_class": None,
                **_excess_of(score, None, real, generated[label]),
                **score.frechet_as_dict(),
            }
            # Add the references at the floor's size.
            if floor is not None and METRICS[metric].is_distance:
                if floor.n <= min(len(real), len(train[label])):
                    patients = real.patients, train[label].patients
                    row["train_test_at_floor_n"] = _mean_score(
                        of_train, patients, metric, floor.n, seed
                    )
                if floor.n <= min(map(len, test.values())):
                    patients = first.patients, second.patients
                    other = _mean_score(classes, patients, metric, floor.n, seed)
                    row["other_class"] = other
                    row |= _excess_of(score, other, real, generated[label])
            rows.append({key: np.nan if part is None else part for key, part in row.items()})
    # A nullable type, so that whole numbers stay whole where one is missing.
    return pd.DataFrame(rows).astype({"floor_n": "Int64"})


def _excess_of(
    score: Score, other_class: float | None, real: FeatureSample, fake: FeatureSample
) -> dict[str, float | None]:
    """Compute the excess of a score at its floor's size, and its interval.

    What is missing is None. The draws of the floor are about halves of the sets. So the deviation
    of their differences is the standard error of the difference, see
    ``intervals.jackknife_interval``. The distance of the other class is only the unit.
    """
    row: dict[str, float | None] = dict.fromkeys(("excess", "excess_low", "excess_high"))
    floor = score.floor
    if floor is None or other_class is None:
        return row
    row["excess"] = value = excess(floor.score, floor.floor, other_class)
    if value is not None and real.can_be_halved and fake.can_be_halved:
        error = floor.difference_spread / (other_class - floor.floor)
        freedom = min(FLOOR_DRAWS, real.patients.count, fake.patients.count) - 1
        interval = interval_around(value, error, freedom)
        row |= {"excess_low": interval.low, "excess_high": interval.high}
    return row


def _mean_score(
    sets: Comparison, patients: tuple[Patients, Patients], metric: str, drawn: int, seed: int
) -> float:
    """Compute the mean score of random draws of ``drawn`` images, by patient, of two sets."""
    rng = numpy_stream(Stream.REFERENCE, seed, drawn)
    scores = [
        sets.score(metric, *(part.draw(drawn, rng) for part in patients))
        for _ in range(FLOOR_DRAWS)
    ]
    return float(np.mean(scores))
