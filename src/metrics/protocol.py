"""The thesis's protocol: many small draws of real and generated images, compared in pairs.

The four sets are RN and RP, real test images of each class, and FN and FP, generated ones. In
each iteration ``sample_size`` real images of each class are drawn at random and as many are newly
generated, and the six pairs of different sets are compared. Two floors stand beside them: RNxRN
and RPxRP, draws of one real class without a common patient, which is what real images of other
patients score with as few images.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..common.errors import UserError
from ..common.rng import Stream, numpy_stream
from ..data.patients import Patients, check_test_sizes
from .frechet import FeatureSet, frechet_distance

Kind = Literal["same", "different", "floor"]
SETS = ("RN", "RP", "FN", "FP")
PAIRS: dict[str, Kind] = {
    f"{first}x{second}": "same" if first[1] == second[1] else "different"
    for first, second in combinations(SETS, 2)
}

FLOORS = ("RNxRN", "RPxRP")
KINDS: dict[str, Kind] = {**PAIRS, **dict.fromkeys(FLOORS, "floor")}
FakeFeatures = Callable[[str, int], NDArray[np.float32]]


@dataclass(frozen=True)
class RealFeatures:
    """Features of the images of a real set that any iteration draws."""

    patients: Patients  # of the whole set
    rows: NDArray[np.int64]  # indices of the drawn images, ascending, (m,)
    features: NDArray[np.float32]  # of the drawn images, (m, dims)

    def of(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the features of the images at the indices ``chosen`` in the whole set."""
        return self.features[np.searchsorted(self.rows, chosen)]


@dataclass(frozen=True)
class _Draw:
    """Indices of the images of one real set that one iteration compares."""

    sample: NDArray[np.int64]
    floor: tuple[NDArray[np.int64], NDArray[np.int64]]  # without a common patient


def rows_to_draw(
    patients: Mapping[str, Patients], iterations: int, sample_size: int, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Return the indices of the images of each real set that any iteration draws, ascending.

    They are few in a large set, and only their features are needed.

    Args:
        patients: patients of the images of RN and RP.
        iterations: number of iterations.
        sample_size: images of each set in a draw.
        seed: seed of the draws, as in ``compare_sets``.

    Raises:
        UserError: as ``check_test_sizes``.
    """
    check_test_sizes(patients, sample_size)
    needed = {name: np.zeros(len(part), dtype=np.bool_) for name, part in patients.items()}
    for iteration in range(iterations):
        for name, draw in _draws(patients, iteration, sample_size, seed).items():
            for indices in (draw.sample, *draw.floor):
                needed[name][indices] = True
    return {name: np.flatnonzero(drawn) for name, drawn in needed.items()}


def _draws(
    patients: Mapping[str, Patients], iteration: int, sample_size: int, seed: int
) -> dict[str, _Draw]:
    """Draw the images of one iteration from each real set."""
    rng = numpy_stream(Stream.PROTOCOL_REAL, seed, iteration)
    samples = {name: rng.permutation(len(part))[:sample_size] for name, part in patients.items()}
    return {
        name: _Draw(samples[name], part.disjoint_pair(min(sample_size, part.max_pair_size), rng))
        for name, part in patients.items()
    }


def compare_sets(
    real: Mapping[str, RealFeatures],
    fake: FakeFeatures,
    iterations: int,
    sample_size: int,
    seed: int,
) -> Iterator[list[dict[str, object]]]:
    """Run the protocol; yield the rows of each iteration: iteration, pair, distance, n.

    Args:
        real: features of the real test images, under "RN" and "RP", of ``rows_to_draw``.
        fake: function of "FN" or "FP" and the iteration that returns features of newly generated
            images, (sample_size, dims).
        iterations: number of iterations.
        sample_size: images of each set in a draw. The floors' draws are as large, or about half of
            the class where it has no two such draws without a common patient.
        seed: seed of all draws; each iteration has a random stream of its own.

    Raises:
        UserError: as ``check_test_sizes``.
    """
    patients = {name: features.patients for name, features in real.items()}
    check_test_sizes(patients, sample_size)
    for iteration in range(iterations):
        # Draw and generate the images.
        draws = _draws(patients, iteration, sample_size, seed)
        drawn = {name: FeatureSet(real[name].of(draw.sample)) for name, draw in draws.items()}
        drawn |= {name: FeatureSet(fake(name, iteration)) for name in ("FN", "FP")}
        # Compare the pairs of sets, then the floors.
        rows = []
        for first, second in combinations(SETS, 2):
            distance = frechet_distance(drawn[first], drawn[second])
            rows.append(_row(iteration, f"{first}x{second}", distance, sample_size))
        for floor in FLOORS:
            name = floor[:2]
            one, other = (FeatureSet(real[name].of(part)) for part in draws[name].floor)
            distance = frechet_distance(one, other)
            rows.append(_row(iteration, floor, distance, len(draws[name].floor[0])))
        yield rows


def describe(distances: pd.DataFrame) -> pd.DataFrame:
    """Summarise each pair's distances, with n and the mean relative to RNxRP.

    Args:
        distances: columns iteration, pair, distance and n, as ``compare_sets`` yields.

    Returns:
        a table indexed by pair: kind, n, count, mean, std, min, 25%, 50%, 75%, max, relative.

    Raises:
        UserError: if the mean distance of RN and RP is 0.
    """
    grouped = distances.groupby("pair")["distance"].describe().loc[list(KINDS)]
    grouped.insert(0, "kind", [KINDS[pair] for pair in grouped.index])
    grouped.insert(1, "n", distances.groupby("pair")["n"].first())
    grouped["count"] = grouped["count"].astype(int)
    classes = grouped.loc["RNxRP", "mean"]
    if not classes > 0:
        raise UserError("these features are the same for both classes; set fid.extractor to others")
    grouped["relative"] = grouped["mean"] / classes
    return grouped


def _row(iteration: int, pair: str, distance: float, size: int) -> dict[str, object]:
    """Return one row of the table of distances."""
    return {"iteration": iteration, "pair": pair, "distance": distance, "n": size}
