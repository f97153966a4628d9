import numpy as np
import pytest
import scipy.stats

from src.data.patients import Patients
from src.metrics.intervals import jackknife_interval

NAMES = ["a", "b", "a", "c", "c", "c", "d", "e", "e", "f"]


def owners(rows: np.ndarray) -> set[str]:
    return {NAMES[row] for row in rows}


def test_two_draws_have_no_patient_and_no_image_in_common() -> None:
    patients = Patients.from_names(NAMES)
    assert patients.max_pair_size == 3  # (10 - 3) / 2
    for seed in range(200):
        first, second = patients.disjoint_pair(3, np.random.default_rng(seed))
        assert len(first) == len(second) == 3
        assert len({*first, *second}) == 6
        assert not owners(first) & owners(second)


def test_every_image_is_drawn_sometimes() -> None:
    patients = Patients.from_names(NAMES)
    drawn = {
        int(row)
        for seed in range(100)
        for part in patients.disjoint_pair(3, rng(seed))
        for row in part
    }
    assert drawn == set(range(10))


def test_half_of_the_images_are_those_of_whole_patients() -> None:
    patients = Patients.from_names(NAMES)
    sizes = []
    for seed in range(200):
        half = patients.half(rng(seed))
        assert len(set(half)) == len(half)
        assert not owners(half) & owners(np.setdiff1d(np.arange(10), half))
        sizes.append(len(half))
    assert min(sizes) == 5
    assert max(sizes) <= 7


def test_a_draw_is_of_whole_patients_but_for_the_last_one() -> None:
    patients = Patients.from_names(NAMES)
    drawn = set()
    for seed in range(100):
        rows = patients.draw(4, rng(seed))
        assert len(set(rows)) == 4
        rest = np.setdiff1d(np.arange(10), rows)
        assert len(owners(rows) & owners(rest)) <= 1
        drawn |= {int(row) for row in rows}
    assert drawn == set(range(10))


def test_half_of_the_patients_are_drawn_whatever_images_they_have() -> None:
    patients = Patients.from_names(NAMES).take(np.array([9, 1, 3, 4, 5, 7, 8]))  # f, b, c, e
    names = [NAMES[row] for row in (9, 1, 3, 4, 5, 7, 8)]
    chosen = set()
    for seed in range(100):
        half = {names[row] for row in patients.half_of_patients(rng(seed))}
        rest = set(names) - half
        assert len(half) == len(rest) == 2
        chosen.add(frozenset(half))
    assert len(chosen) == 6  # every pair of the four
    assert len(Patients.singletons(5).half_of_patients(rng(1))) == 3


def test_the_largest_share_is_of_the_patient_with_most_images() -> None:
    assert Patients.from_names(NAMES).largest_share == 0.3
    assert Patients.singletons(4).largest_share == 0.25


def test_strangers_are_halved_exactly() -> None:
    assert len(Patients.singletons(10).half(rng(1))) == 5
    assert Patients.singletons(9).max_pair_size == 4


def test_a_pair_that_may_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="too many for 10"):
        Patients.from_names(NAMES).disjoint_pair(4, rng(1))
    with pytest.raises(ValueError, match="too many for 3"):
        Patients.from_names(["a", "a", "a"]).disjoint_pair(1, rng(1))
    with pytest.raises(ValueError, match="too many for 10"):
        Patients.from_names(NAMES).disjoint_pair(0, rng(1))
    first, second = Patients.from_names(["a", "a", "b", "b"]).disjoint_pair(1, rng(1))
    assert len(first) == len(second) == 1


def test_half_of_two_patients_is_one_of_them_and_of_one_patient_everything() -> None:
    """Whatever is left of the last patient goes along, to the end of the set as well."""
    for seed in range(20):
        assert list(Patients.from_names(["a", "a", "a", "b"]).half(rng(seed))) in (
            [0, 1, 2],
            [0, 1, 2, 3],
        )
    assert list(Patients.from_names(["a", "a", "a"]).half(rng(1))) == [0, 1, 2]


def test_the_patients_of_some_images_are_those_of_the_whole() -> None:
    some = Patients.from_names(NAMES).take(np.array([0, 2, 9]))
    assert some.max_pair_size == 0  # a has two of three


def test_the_standard_error_of_a_mean_is_the_textbook_one() -> None:
    x, y = rng(1).standard_normal(400), 2 * rng(2).standard_normal(100)

    def difference(i: np.ndarray, j: np.ndarray) -> float:
        return float(x[i].mean() - y[j].mean())

    found = jackknife_interval(
        0.3, difference, Patients.singletons(400), Patients.singletons(100), 1000, rng(3)
    )
    expected = np.sqrt(x.var(ddof=1) / 400 + y.var(ddof=1) / 100)
    assert found.standard_error == pytest.approx(expected, rel=0.07)
    assert found.low == pytest.approx(0.3 - 1.984 * found.standard_error, rel=1e-3)
    assert found.high == pytest.approx(0.3 + 1.984 * found.standard_error, rel=1e-3)


def test_images_of_one_patient_count_as_one() -> None:
    """Each value four times says no more than once: the error of its mean does not shrink."""
    once = rng(1).standard_normal(100)
    four = np.repeat(once, 4)
    patients = Patients.from_names([str(number // 4) for number in range(400)])

    def mean(i: np.ndarray, j: np.ndarray) -> float:
        return float(four[i].mean())

    found = jackknife_interval(0, mean, patients, Patients.singletons(100), 500, rng(2))
    assert found.standard_error == pytest.approx(once.std(ddof=1) / 10, rel=0.1)


@pytest.mark.parametrize("patients", [4, 6, 10])
def test_few_patients_make_the_interval_wider(patients: int) -> None:
    """The interval of a mean holds the true one as often as it says, or nearly so."""
    held = 0
    for seed in range(200):
        values = np.repeat(rng(seed).standard_normal(patients), 5)
        owners = Patients.from_names([str(number // 5) for number in range(5 * patients)])

        def mean(i: np.ndarray, j: np.ndarray, values: np.ndarray = values) -> float:
            return float(values[i].mean())

        sets = owners, Patients.singletons(100)
        found = jackknife_interval(float(values.mean()), mean, *sets, 64, rng(1000 + seed))
        held += found.low <= 0 <= found.high
    assert held >= 0.89 * 200


def test_an_interval_stays_within_what_the_score_can_be() -> None:
    values = rng(1).random(20)

    def score(i: np.ndarray, j: np.ndarray) -> float:
        return float(values[i].mean())

    sets = Patients.singletons(20), Patients.singletons(20)
    found = jackknife_interval(0.99, score, *sets, 50, rng(2), (0, 1))
    assert found.high == 1


def test_the_reach_is_that_of_students_t_for_the_fewer_of_draws_and_patients() -> None:
    values = rng(1).random(20)

    def score(i: np.ndarray, j: np.ndarray) -> float:
        return float(values[i].mean())

    for first, second, draws, freedom in ((20, 20, 5, 4), (20, 6, 50, 5), (7, 20, 50, 6)):
        sets = Patients.singletons(first), Patients.singletons(second)
        found = jackknife_interval(0.5, score, *sets, draws, rng(2))
        halves = rng(2)
        pairs = [(sets[0].half(halves), sets[1].half(halves)) for _ in range(draws)]
        error = np.std([score(*pair) for pair in pairs], ddof=1)
        assert found.standard_error == pytest.approx(error, rel=1e-12)
        reach = scipy.stats.t.ppf(0.975, freedom) * error
        assert (found.low, found.high) == pytest.approx((0.5 - reach, 0.5 + reach), rel=1e-12)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
