import pytest

from benchmarks.evaluation import measure, measure_full, sets


def test_both_ways_measure_the_same_distance() -> None:
    ours, plain = (measure_full(40, 30, 16, way) for way in ("ours", "plain"))
    assert ours["value"] == pytest.approx(plain["value"], rel=1e-6)


def test_every_measurement_tells_its_peak_memory() -> None:
    for way in ("ours", "plain"):
        found = measure("protocol", "16", way)
        assert found["seconds"] > 0
        assert found["peak_mib"] > 50


def test_features_are_positive_and_of_the_asked_sizes() -> None:
    x, y = sets((5, 7), 12, 0)
    assert (x.shape, y.shape) == ((5, 12), (7, 12))
    assert min(x.min(), y.min()) >= 0
