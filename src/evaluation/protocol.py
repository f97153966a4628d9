"""The thesis's protocol: many small draws of real and generated images, compared in pairs.

The four sets are RN and RP, real test images of each class, and FN and FP, generated ones. In
each iteration ``sample_size`` real images of each class are drawn at random and as many are newly
generated, and the six pairs of different sets are compared. Two floors stand beside them: RNxRN
and RPxRP, disjoint draws of one real class, which is what a perfect generator would score with
as few images.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.errors import UserError
from src.evaluation.frechet import FeatureSet, frechet_distance

Kind = Literal["same", "different", "floor"]

SETS = ("RN", "RP", "FN", "FP")
PAIRS: dict[str, Kind] = {
    f"{first}x{second}": "same" if first[1] == second[1] else "different"
    for first, second in combinations(SETS, 2)
}
FLOORS = ("RNxRN", "RPxRP")
KINDS: dict[str, Kind] = {**PAIRS, **dict.fromkeys(FLOORS, "floor")}

FakeFeatures = Callable[[str, int], NDArray[np.float32]]


def compare_sets(
    real: Mapping[str, NDArray[np.float32]],
    fake: FakeFeatures,
    iterations: int,
    sample_size: int,
    seed: int,
) -> Iterator[list[dict[str, object]]]:
    """Run the protocol; yield the rows of each iteration: iteration, pair, distance, n.

    Args:
        real: features of the real test images, under "RN" and "RP", (n, dims) each.
        fake: given "FN" or "FP" and the iteration, features of new images, (sample_size, dims).
        iterations: how many times to draw.
        sample_size: images of each set in a draw. The floors' draws are as large, or half of the
            class where it has fewer than twice as many.
        seed: names the randomness; every iteration has a stream of its own.

    Raises:
        UserError: if a real set is smaller than ``sample_size``.
    """
    for name, features in real.items():
        if len(features) < sample_size:
            raise UserError(
                f"fid.sample_size: {sample_size} is more than the {len(features)} test images "
                f"of {name}"
            )
    for iteration in range(iterations):
        rng = np.random.default_rng([seed, iteration])
        orders = {name: rng.permutation(len(features)) for name, features in real.items()}
        drawn = {
            name: FeatureSet(real[name][order[:sample_size]]) for name, order in orders.items()
        }
        drawn |= {name: FeatureSet(fake(name, iteration)) for name in ("FN", "FP")}
        rows = []
        for first, second in combinations(SETS, 2):
            distance = frechet_distance(drawn[first], drawn[second])
            rows.append(_row(iteration, f"{first}x{second}", distance, sample_size))
        for floor in FLOORS:
            name = floor[:2]
            size = min(sample_size, len(real[name]) // 2)
            order = rng.permutation(len(real[name]))
            halves = [real[name][part] for part in (order[:size], order[size : 2 * size])]
            distance = frechet_distance(FeatureSet(halves[0]), FeatureSet(halves[1]))
            rows.append(_row(iteration, floor, distance, size))
        yield rows


def describe(distances: pd.DataFrame) -> pd.DataFrame:
    """Each pair's distances as pandas describes them, with n and the mean relative to RNxRP.

    Args:
        distances: columns iteration, pair, distance and n, as ``compare_sets`` yields.

    Returns:
        a table indexed by pair: kind, n, count, mean, std, min, 25%, 50%, 75%, max, relative.
    """
    grouped = distances.groupby("pair")["distance"].describe().loc[list(KINDS)]
    grouped.insert(0, "kind", [KINDS[pair] for pair in grouped.index])
    grouped.insert(1, "n", distances.groupby("pair")["n"].first())
    grouped["count"] = grouped["count"].astype(int)
    grouped["relative"] = grouped["mean"] / grouped.loc["RNxRP", "mean"]
    return grouped


def _row(iteration: int, pair: str, distance: float, size: int) -> dict[str, object]:
    return {"iteration": iteration, "pair": pair, "distance": distance, "n": size}
