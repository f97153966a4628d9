from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from benchmarks.plain_evaluation import plain_frechet
from src.data.patients import Patients
from src.metrics import frechet
from src.metrics.frechet import (
    Features,
    FeatureSet,
    Moments,
    extrapolated_distance,
    frechet_distance,
    frechet_parts,
)


def with_moments(
    mean: NDArray[np.float64], cov: NDArray[np.float64], n: int, seed: int
) -> NDArray[np.float64]:
    """n samples whose mean and unbiased covariance are exactly these."""
    x = np.random.default_rng(seed).standard_normal((n, len(mean)))
    x -= x.mean(axis=0)
    white = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / (n - 1)).T)
    samples: NDArray[np.float64] = white @ np.linalg.cholesky(cov).T + mean
    return samples


@pytest.mark.parametrize("n", [9, 40, 300])
def test_closed_form_for_gaussians_with_diagonal_covariances(n: int) -> None:
    a, b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.5])
    m = np.array([1.0, -2.0, 0.5])
    x, y = with_moments(np.zeros(3), np.diag(a), n, 1), with_moments(m, np.diag(b), n + 5, 2)
    expected = np.square(m).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(FeatureSet(x), FeatureSet(y)) == pytest.approx(expected, rel=1e-10)


def test_closed_form_in_one_dimension() -> None:
    x, y = np.array([[0.0], [2.0]]), np.array([[5.0], [5.0], [8.0]])
    expected = (1 - 6) ** 2 + (np.sqrt(2) - np.sqrt(3)) ** 2
    assert frechet_distance(FeatureSet(x), FeatureSet(y)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("n1", "n2", "d"), [(50, 60, 8), (200, 30, 20), (30, 25, 20), (500, 90, 64)]
)
def test_matrix_square_root_in_float64(n1: int, n2: int, d: int) -> None:
    rng = np.random.default_rng(n1)
    mix = rng.standard_normal((d, d))
    x, y = rng.standard_normal((n1, d)) @ mix, rng.standard_normal((n2, d)) * 1.5 + 0.3
    found = frechet_distance(FeatureSet(x), FeatureSet(y))
    assert found == pytest.approx(plain_frechet(x, y), rel=1e-6)


def test_fewer_samples_than_features_are_exact_too() -> None:
    """Against the eigenvalues of S1 S2, which is singular here."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((12, 40)), rng.standard_normal((15, 40)) + 0.2
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    eigenvalues = np.clip(np.linalg.eigvals(s @ t).real, 0, None)
    gap = np.square(x.mean(0) - y.mean(0)).sum()
    expected = gap + np.trace(s) + np.trace(t) - 2 * np.sqrt(eigenvalues).sum()
    assert frechet_distance(FeatureSet(x), FeatureSet(y)) == pytest.approx(expected, rel=1e-5)


def test_symmetric_zero_on_itself_and_blind_to_rotation_and_order() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((30, 10)), rng.standard_normal((25, 10)) + 1
    first, second = FeatureSet(x), FeatureSet(y)
    distance = frechet_distance(first, second)
    assert frechet_distance(second, first) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(first, FeatureSet(x[::-1].copy())) == pytest.approx(0, abs=1e-9)
    turn, _ = np.linalg.qr(rng.standard_normal((10, 10)))
    turned = frechet_distance(FeatureSet(x @ turn), FeatureSet(y @ turn))
    assert turned == pytest.approx(distance, rel=1e-10)


def test_the_two_parts_see_a_shift_and_a_contraction_apart() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((30, 5)) * [1, 2, 3, 4, 5]
    shift = np.array([3.0, 0, 0, 4, 0])
    half = (x - x.mean(axis=0)) / 2 + x.mean(axis=0)
    trace = x.var(axis=0, ddof=1).sum()
    for other, means, covariances in (
        (x + shift, 25, 0),
        (half, 0, trace / 4),  # tr(S) + tr(S) / 4 - 2 tr(S) / 2
        (half + shift, 25, trace / 4),
    ):
        first, second = FeatureSet(x), FeatureSet(other)
        assert frechet_parts(first, second) == pytest.approx((means, covariances), abs=1e-9)
        assert sum(frechet_parts(first, second)) == pytest.approx(frechet_distance(first, second))


def test_constant_features_have_the_distance_of_their_means() -> None:
    x, y = np.zeros((5, 3)), np.full((4, 3), 2.0)
    assert frechet_distance(FeatureSet(x), FeatureSet(y)) == pytest.approx(12, rel=1e-12)


def test_float32_features_are_judged_in_float64() -> None:
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((60, 12)) + 1000).astype(np.float32)
    y = (rng.standard_normal((60, 12)) + 1000).astype(np.float32)
    found = frechet_distance(FeatureSet(x), FeatureSet(y))
    assert found == pytest.approx(plain_frechet(x.astype(float), y.astype(float)), rel=1e-6)


@pytest.mark.parametrize(
    "features", [np.zeros((1, 3)), np.zeros(3), np.array([[0.0, np.nan], [1.0, 1.0]])]
)
def test_what_has_no_covariance_is_refused(features: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="features"):
        FeatureSet(features)


def test_different_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="different widths"):
        frechet_distance(FeatureSet(np.eye(3)), FeatureSet(np.eye(4)))


def test_saved_moments_give_the_distance_of_the_set_they_are_of() -> None:
    rng = np.random.default_rng(6)
    for n, m, d in ((50, 40, 6), (5, 40, 6), (5, 4, 6)):
        x, y = FeatureSet(rng.standard_normal((n, d))), FeatureSet(rng.standard_normal((m, d)) + 1)
        expected = frechet_distance(x, y)
        saved = [Moments(part.mean, part.covariance) for part in (x, y)]
        assert frechet_distance(saved[0], y) == pytest.approx(expected, rel=1e-6)
        assert frechet_distance(x, saved[1]) == pytest.approx(expected, rel=1e-6)
        assert frechet_distance(*saved) == pytest.approx(expected, rel=1e-6)


def test_both_exact_forms_agree() -> None:
    """With as many samples as features on one side the other form is taken."""
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((33, 32)), rng.standard_normal((40, 32)) * 2
    by_eigenvalues = frechet_distance(FeatureSet(x), FeatureSet(y))
    padded = [np.hstack([part, np.zeros((len(part), 10))]) for part in (x, y)]
    by_singular_values = frechet_distance(*(FeatureSet(part) for part in padded))
    assert by_eigenvalues == pytest.approx(by_singular_values, rel=1e-9)


@pytest.mark.parametrize(
    ("mean", "covariance", "said"),
    [
        (np.zeros(2), np.zeros((3, 3)), r"not \(2,\) and \(3, 3\)$"),
        (np.zeros((2, 1)), np.zeros((2, 2)), r"not \(2, 1\) and \(2, 2\)$"),
        (np.zeros(0), np.zeros((0, 0)), r"must be \(d,\) and \(d, d\)"),
        (np.array([0.0, np.inf]), np.eye(2), "^a mean and a covariance must be finite$"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), "^a covariance must be symmetric$"),
        (np.zeros(2), 1e9 * np.array([[1.0, 0.5], [0.4, 1.0]]), "symmetric"),
        (np.zeros(2), 1e-9 * np.array([[1.0, 0.5], [0.4, 1.0]]), "symmetric"),
    ],
)
def test_moments_that_are_of_no_gaussian_are_refused(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Moments(mean, covariance)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_moments_may_be_rounded(scale: float) -> None:
    Moments(np.zeros(2), scale * np.array([[1.0, 0.5], [0.5 + 1e-8, 1.0]]))
    Moments(np.zeros(2), np.zeros((2, 2)))


def strangers(*sets: Features) -> tuple[Patients, Patients]:
    """Every image of another patient."""
    first, second = (Patients.singletons(len(part)) for part in sets)
    return first, second


def test_the_distance_at_infinitely_many_samples_loses_its_bias() -> None:
    """Closed form for two Gaussians with unit covariance: the squared distance of the means."""
    rng = np.random.default_rng(8)
    found = []
    for _ in range(20):
        x, y = rng.standard_normal((300, 8)), rng.standard_normal((300, 8)) + 0.5
        biased = frechet_distance(FeatureSet(x), FeatureSet(y))
        limit = extrapolated_distance(x, y, strangers(x, y), rng)
        if limit is not None:
            assert limit < biased
            found.append(limit)
    assert len(found) >= 15
    assert np.mean(found) == pytest.approx(8 * 0.5**2, rel=0.05)


def test_images_of_one_patient_are_kept_together_in_the_extrapolation() -> None:
    """As above; the images of a patient have nearly all in common, so patients are the samples."""
    rng = np.random.default_rng(12)
    found: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(20):
        owner = np.repeat(np.arange(300), rng.integers(1, 11, 300))
        shared = rng.standard_normal((300, 8))[owner]
        x = np.sqrt(0.9) * shared + np.sqrt(0.1) * rng.standard_normal(shared.shape)
        y = rng.standard_normal((2000, 8)) + 0.5
        for known in found:
            whose = Patients(owner) if known else Patients.singletons(len(x))
            limit = extrapolated_distance(x, y, (whose, Patients.singletons(len(y))), rng)
            assert limit is not None
            found[known].append(limit)
    assert np.mean(found[True]) == pytest.approx(8 * 0.5**2, rel=0.05)
    # Taken for those of as many patients they keep a part of the bias.
    assert np.mean(np.subtract(found[False], found[True])) > 0.05


@pytest.mark.parametrize("n", [5, 40, 400])
def test_with_few_samples_for_the_features_there_is_no_extrapolation(n: int) -> None:
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((n, 200)), rng.standard_normal((n, 200))
    assert extrapolated_distance(x, y, strangers(x, y), rng) is None


def test_the_smallest_subsets_have_more_images_than_features() -> None:
    """Means far apart leave nothing else that an answer could fail by."""
    x = np.random.default_rng(10).standard_normal((84, 20))
    for n, told in ((80, False), (84, True)):
        for first, second in ((x[:n], x + 100), (x + 100, x[:n])):
            limit = extrapolated_distance(
                first, second, strangers(first, second), np.random.default_rng(0)
            )
            assert (limit is not None) == told
            assert limit is None or limit == pytest.approx(20 * 100**2, rel=1e-3)


def test_a_bias_that_is_no_line_leaves_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The distances are given here, by the share of the images that they are of."""
    x = np.zeros((1000, 2))

    def extrapolated(of: Callable[[float, float], float]) -> float | None:
        noise = np.random.default_rng(11)

        def given(first: FeatureSet, second: FeatureSet) -> float:
            return of(len(first.features) / 1000, noise.standard_normal())

        monkeypatch.setattr(frechet, "frechet_distance", given)
        return extrapolated_distance(x, x, strangers(x, x), np.random.default_rng(0))

    for scale in (1e-3, 1.0, 1e3):
        assert extrapolated(lambda n, _: scale * (2 + 1 / n)) == pytest.approx(2 * scale, rel=1e-3)  # noqa: B023
        # Noise alone is no curve, where it leaves the answer good enough.
        unsteady = extrapolated(lambda n, e: scale * (2 + 1 / n + 0.05 * e))  # noqa: B023
        assert unsteady == pytest.approx(2 * scale, rel=0.05)
        assert extrapolated(lambda n, e: scale * (2 + 1 / n + 2 * e)) is None  # noqa: B023
        assert extrapolated(lambda n, _: scale * (2 + 1 / n**2)) is None  # noqa: B023
        assert extrapolated(lambda n, _: scale * (2 + 1 / n + 1e-3 / n**2)) is not None  # noqa: B023
    assert extrapolated(lambda n, _: 0.1 + 1e-4 / n) == pytest.approx(0.1, rel=1e-3)
    assert extrapolated(lambda n, _: -1e-2 + 1 / n) == 0


def test_the_line_is_the_one_of_least_squares() -> None:
    rng = np.random.default_rng(12)
    x = np.repeat(np.linspace(1, 4, 8), 6)
    y = 3 + 0.5 * x + rng.standard_normal(x.size)
    expected = scipy.stats.linregress(x, y)
    found = frechet._intercept(x, y)
    assert found == pytest.approx((expected.intercept, expected.intercept_stderr), rel=1e-9)
