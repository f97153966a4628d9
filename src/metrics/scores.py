"""Scores of generated images, with their confidence intervals and floors.

On a small set not even real images of other patients have a distance of 0. So each score has a
confidence interval, and a floor: the score of real images of other patients at the same size.

A score is of all images. Intervals and floors rest on many draws, which are made from a random part
of a large set, see ``MAX_DRAWN_IMAGES``.
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
from .intervals import Interval, interval_around, interval_of_halves
from .kid_prdc import Comparison

# Images of a set that all draws are made from. They share matrices of all distances, which grow
# with the square. Some 260 draws of a quarter of these would be many times the work of the scores.
MAX_DRAWN_IMAGES = 2000
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

    def at_most(self, images: int, rng: np.random.Generator) -> "FeatureSample":
        """Return so many images of random patients, or the set itself if it has no more."""
        if len(self) <= images:
            return self
        rows = np.sort(self.patients.draw(images, rng))
        small = None if self.thumbnails is None else self.thumbnails[rows]
        return FeatureSample(self.features[rows], self.patients.take(rows), small)

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
    drawn_from: int | None = None  # images a set that draws are made from; None for all

    def as_dict(self) -> dict[str, float | None]:
        """Return the value, its interval and floor by name; None for what is missing.

        ``drawn_from`` is there only where draws are not made from all images.
        """
        interval, floor = self.interval, self.floor
        drawn_from = {} if self.drawn_from is None else {"drawn_from": self.drawn_from}
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
            **drawn_from,
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
    # Score the whole sets.
    sizes = len(real), len(fake)
    whole = compare(real, fake, neighbours)
    values = whole.scores(whole.available(min(sizes)))
    # Compute the floors and the scores of halves, from a part of a large set.
    parts = _part(real, Stream.FLOOR, seed), _part(fake, Stream.FLOOR_GENERATED, seed)
    between, within = compare(*parts, neighbours), compare(parts[0], parts[0], neighbours)
    size = min(parts[0].patients.max_pair_size, len(parts[1]))
    floors = _floors(between.available(size), between, within, parts, size, seed)
    halves = _scores_of_halves(between, parts, draws, seed)
    # Set each score beside its interval and its floor.
    shares = [len(part) / n for part, n in zip(parts, sizes, strict=True)]
    patients = min(part.patients.count for part in parts)
    drawn_from = MAX_DRAWN_IMAGES if min(shares) < 1 else None
    scores = []
    for metric, value in values.items():
        interval = limit = moments = None
        if metric in halves:
            bounds = METRICS[metric].bounds
            interval = interval_of_halves(value, halves[metric], patients, bounds, max(shares))
        if metric == "frechet":
            limit = _limit(real, fake, seed)
            moments = frechet_parts(FeatureSet(real.features), FeatureSet(fake.features))
        floor = floors.get(metric)
        scores.append(Score(metric, value, *sizes, interval, floor, limit, moments, drawn_from))
    return scores


def _part(sample: FeatureSample, stream: Stream, seed: int) -> FeatureSample:
    """Return the images of a set that draws are made from, by a stream that a size indexes."""
    return sample.at_most(MAX_DRAWN_IMAGES, numpy_stream(stream, seed, MAX_DRAWN_IMAGES))


def _scores_of_halves(
    between: Comparison, sets: tuple[FeatureSample, FeatureSample], draws: int, seed: int
) -> dict[str, list[float]]:
    """Score random halves of two sets; return the scores by metric, of those that allow it."""
    metrics = between.available(min(map(len, sets)) // 2)
    if not (metrics and all(part.can_be_halved for part in sets)):
        return {}
    rng = numpy_stream(Stream.SCORE_INTERVAL, seed)
    drawn = [
        between.scores(metrics, *(part.patients.half(rng) for part in sets)) for _ in range(draws)
    ]
    return {metric: [scores[metric] for scores in drawn] for metric in metrics}


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
        covariances_part. Where draws are not made from all images also drawn_from, see ``Score``.
    """
    parts = {label: _part(sample, Stream.FLOOR, seed) for label, sample in test.items()}
    first, second = parts.values()
    classes = compare(first, second, neighbours)
    rows = []
    for label, real in test.items():
        whole = compare(real, train[label], neighbours)
        train_test = whole.scores(whole.available(min(len(real), len(train[label]))))
        part_of_train = _part(train[label], Stream.REFERENCE, seed)
        of_train = compare(parts[label], part_of_train, neighbours)
        for score in score_sets(real, generated[label], neighbours, draws, seed):
            # Enter the score, and that of the real train images.
            metric, floor = score.metric, score.floor
            row: dict[str, str | float | None] = {
                "class": label,
                "metric": metric,
                **score.as_dict(),
                "train_test": train_test.get(metric),
                "train_test_at_floor_n": None,
                "other_class": None,
                **_excess_of(score, None, real, generated[label]),
                **score.frechet_as_dict(),
            }
            # Add the references at the floor's size.
            if floor is not None and METRICS[metric].is_distance:
                if floor.n <= min(len(parts[label]), len(part_of_train)):
                    patients = parts[label].patients, part_of_train.patients
                    row["train_test_at_floor_n"] = _mean_score(
                        of_train, patients, metric, floor.n, seed
                    )
                if floor.n <= min(len(first), len(second)):
                    patients = first.patients, second.patients
                    other = _mean_score(classes, patients, metric, floor.n, seed)
                    row["other_class"] = other
                    row |= _excess_of(score, other, real, generated[label])
            rows.append({key: np.nan if part is None else part for key, part in row.items()})
    # A nullable type, so that whole numbers stay whole where one is missing.
    table = pd.DataFrame(rows)
    whole_numbers = [name for name in ("floor_n", "drawn_from") if name in table]
    return table.astype(dict.fromkeys(whole_numbers, "Int64"))


def _excess_of(
    score: Score, other_class: float | None, real: FeatureSample, fake: FeatureSample
) -> dict[str, float | None]:
    """Compute the excess of a score at its floor's size, and its interval.

    What is missing is None. The draws of the floor are about halves of the sets that they are made
    from. So the deviation of their differences is the standard error of the difference, see
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
