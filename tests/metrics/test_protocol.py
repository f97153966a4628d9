from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from src.common.errors import UserError
from src.data.patients import Patients
from src.metrics.frechet import FeatureSet, frechet_distance
from src.metrics.protocol import FLOORS, PAIRS, RealFeatures, compare_sets, describe, rows_to_draw
from src.metrics.thesis import published_description
from tests.conftest import all_drawn

Fake = Callable[[str, int], NDArray[np.float32]]
CENTRES = {"RN": 0.0, "RP": 3.0, "FN": 0.3, "FP": 2.7}


def gaussian(name: str, n: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, 4)) + CENTRES[name]).astype(np.float32)


REAL = {"RN": all_drawn(gaussian("RN", 50, 1)), "RP": all_drawn(gaussian("RP", 31, 2))}


def good_fake(name: str, iteration: int) -> NDArray[np.float32]:
    return gaussian(name, 20, 100 + iteration)


def swapped_fake(name: str, iteration: int) -> NDArray[np.float32]:
    return gaussian({"FN": "FP", "FP": "FN"}[name], 20, 100 + iteration)


def run(fake: Fake = good_fake, iterations: int = 10, seed: int = 5) -> pd.DataFrame:
    parts = compare_sets(REAL, fake, iterations, 20, seed)
    return pd.DataFrame([row for part in parts for row in part])


def test_every_iteration_has_six_pairs_and_two_floors() -> None:
    distances = run()
    assert len(distances) == 10 * 8
    assert set(distances["pair"]) == set(PAIRS) | set(FLOORS)
    assert list(PAIRS) == ["RNxRP", "RNxFN", "RNxFP", "RPxFN", "RPxFP", "FNxFP"]
    assert {pair for pair, kind in PAIRS.items() if kind == "same"} == {"RNxFN", "RPxFP"}


def test_sample_sizes_stand_beside_the_distances() -> None:
    sizes = run().groupby("pair")["n"].unique().map(list).to_dict()
    assert sizes["RNxFP"] == [20]
    assert sizes["RNxRN"] == [20]
    assert sizes["RPxRP"] == [15]  # half of 31


def test_floors_are_of_disjoint_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    from src.metrics import protocol

    compared: list[tuple[FeatureSet, FeatureSet]] = []
    distances: list[float] = []

    def spy(first: FeatureSet, second: FeatureSet) -> float:
        compared.append((first, second))
        distances.append(frechet_distance(first, second))
        return distances[-1]

    monkeypatch.setattr(protocol, "frechet_distance", spy)
    table = run(iterations=3)
    assert list(table["distance"]) == distances
    assert list(table["pair"]) == [*PAIRS, *FLOORS] * 3
    for start in range(0, len(compared), 8):
        for first, second in compared[start + 6 : start + 8]:
            rows = {row.tobytes() for row in first.features}
            assert not rows & {row.tobytes() for row in second.features}


def test_draws_are_without_repetition_and_new_in_each_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from src.metrics import protocol

    drawn: list[int] = []

    def spy(features: NDArray[np.float32]) -> FeatureSet:
        drawn.append(len(np.unique(features, axis=0)))
        return FeatureSet(features)

    monkeypatch.setattr(protocol, "FeatureSet", spy)
    distances = run().pivot(index="iteration", columns="pair", values="distance")
    assert drawn == [20, 20, 20, 20, 20, 20, 15, 15] * 10
    assert distances["RNxRP"].nunique() == 10
    assert distances["FNxFP"].nunique() == 10


def test_the_seed_names_the_draws_and_more_iterations_do_not_change_the_first() -> None:
    pd.testing.assert_frame_equal(run(), run())
    pd.testing.assert_frame_equal(run(iterations=4), run(iterations=10)[: 4 * 8])
    assert not run(seed=6)["distance"].equals(run()["distance"])


def test_of_a_large_set_only_the_images_that_are_drawn_are_needed() -> None:
    features = {"RN": gaussian("RN", 5000, 1), "RP": gaussian("RP", 400, 2)}
    patients = {name: Patients.singletons(len(part)) for name, part in features.items()}
    rows = rows_to_draw(patients, 3, 20, 5)
    assert len(rows["RN"]) <= 3 * 3 * 20
    real = {name: RealFeatures(patients[name], rows[name], features[name][rows[name]])
            for name in patients}  # fmt: skip
    whole = {name: all_drawn(part) for name, part in features.items()}
    assert list(compare_sets(real, good_fake, 3, 20, 5)) == list(
        compare_sets(whole, good_fake, 3, 20, 5)
    )


def test_a_set_that_is_too_small_is_named() -> None:
    with pytest.raises(UserError, match=r"fid\.sample_size: 32 is more than the 31 .* RP"):
        next(compare_sets(REAL, good_fake, 2, 32, 0))
    next(compare_sets(REAL, good_fake, 2, 31, 0))


def test_a_floor_needs_draws_of_two_images_without_a_common_patient() -> None:
    def real(owners: str) -> RealFeatures:
        places = np.arange(len(owners))
        return RealFeatures(
            Patients.from_names(list(owners)), places, gaussian("RP", len(owners), 3)
        )

    (rows,) = compare_sets(REAL | {"RP": real("aabbcc")}, good_fake, 1, 5, 0)
    assert rows[-1]["pair"] == "RPxRP"
    assert rows[-1]["n"] == 2
    for owners in ("aaaaa", "aabbc"):
        with pytest.raises(UserError, match="the 5 test images of RP are of too few patients"):
            next(compare_sets(REAL | {"RP": real(owners)}, good_fake, 1, 5, 0))
        with pytest.raises(UserError, match="the 5 test images of RP are of too few patients"):
            rows_to_draw({"RP": real(owners).patients}, 1, 5, 0)


def test_the_description_is_pandas_own() -> None:
    distances = run()
    table = describe(distances)
    values = distances.loc[distances["pair"] == "RNxFN", "distance"]
    for key, value in values.describe().items():
        assert table.loc["RNxFN", str(key)] == pytest.approx(value)
    assert table.loc["RNxRP", "relative"] == 1
    assert table.loc["RNxFN", "relative"] == pytest.approx(
        values.mean() / distances.loc[distances["pair"] == "RNxRP", "distance"].mean()
    )
    assert table["kind"].to_dict() == PAIRS | dict.fromkeys(FLOORS, "floor")
    columns = ["kind", "n", "count", "mean", "std", "min", "25%", "50%", "75%", "max", "relative"]
    assert list(table.columns) == columns
    assert table["n"].to_dict() == dict.fromkeys([*PAIRS, "RNxRN"], 20) | {"RPxRP": 15}
    assert str(table.loc["RNxFN", "count"]) == "10"


def test_the_published_table_says_that_the_thesis_held_it() -> None:
    table = published_description()
    same = table.loc[[pair for pair, kind in PAIRS.items() if kind == "same"], "mean"]
    different = table.loc[[pair for pair, kind in PAIRS.items() if kind == "different"], "mean"]
    assert list(table.index) == list(PAIRS)
    assert same.max() < 2.6 < different.min()


def test_features_that_tell_nothing_apart_are_refused() -> None:
    rows = [
        {"iteration": i, "pair": pair, "distance": 0.0, "n": 10}
        for i in range(3)
        for pair in (*PAIRS, *FLOORS)
    ]
    with pytest.raises(UserError, match=r"the same for both classes; set fid\.extractor"):
        describe(pd.DataFrame(rows))
