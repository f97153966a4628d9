from dataclasses import replace

import pytest

from src.metrics.hypothesis import (
    COMPARED_PAIRS,
    Difference,
    HypothesisResult,
    ThesisStatistic,
)

THESIS = ThesisStatistic("RPxFP", 3.649, "FNxFP", 76.63, 0.98)
DIFFERENCES = tuple(Difference(*pairs, 2.0, 1.5, 2.5) for pairs in COMPARED_PAIRS)
HOLDS = HypothesisResult(DIFFERENCES, 101, THESIS)


def changed(*changes: tuple[int, float, float, float]) -> HypothesisResult:
    """The result with the value and the interval of some differences changed, by index."""
    differences = list(DIFFERENCES)
    for index, value, low, high in changes:
        differences[index] = replace(differences[index], value=value, low=low, high=high)
    return replace(HOLDS, differences=tuple(differences))


def test_each_same_class_pair_is_compared_with_the_three_of_different_classes() -> None:
    assert [part.name for part in DIFFERENCES] == [
        *("RNxRP-RNxFN", "RNxFP-RNxFN", "RPxFN-RNxFN"),
        *("RNxRP-RPxFP", "RNxFP-RPxFP", "RPxFN-RPxFP"),
    ]


@pytest.mark.parametrize(
    ("interval", "result"),
    [
        ((2, 1.5, 2.5), "holds"),
        ((1, 0.01, 2), "holds"),
        ((1, 0, 2), "undecided"),
        ((1, -0.01, 2), "undecided"),
        ((-1, -2, 0), "undecided"),
        ((-1, -2, -0.01), "does not hold"),
    ],
)
def test_one_difference_decides(interval: tuple[float, float, float], result: str) -> None:
    for index in range(6):
        assert changed((index, *interval)).result == result


def test_what_fails_decides_whatever_else_is_uncertain() -> None:
    assert changed((0, 0, -1, 1), (4, -3, -4, -2)).result == "does not hold"


def test_the_sentence_of_a_hypothesis_that_holds() -> None:
    assert changed((4, 1.2345, 0.1, 2.3)).sentence() == (
        "The hypothesis holds: generated images are nearer to real images of their class than the "
        "classes are to each other. All 6 differences are above 0 by more than chance explains; "
        "the lowest: RNxFP - RPxFP = 1.23, 95 % interval 0.1 to 2.3 (101 images of each set). In "
        "98% of the draws both same-class distances are below all others; the draws share the real "
        "images, so this is no confidence."
    )


def test_the_sentence_names_the_difference_that_fails() -> None:
    assert (
        changed((0, -1, -2, -0.1), (2, -3, -4, -2))
        .sentence()
        .startswith(
            "The hypothesis does not hold: generated NORMAL images are not nearer to real NORMAL "
            "images than to real PNEUMONIA images. The difference is below 0 by more than chance "
            "explains: RPxFN - RNxFN = -3, 95 % interval -4 to -2 (101 images of each set). "
        )
    )


def test_the_sentence_names_the_difference_that_is_uncertain() -> None:
    text = changed((3, 0.5, -0.1, 1)).sentence()
    assert text.startswith(
        "It is undecided whether the hypothesis holds: real PNEUMONIA images may or may not be "
        "nearer to generated PNEUMONIA images than to real NORMAL images. Chance explains either: "
        "RNxRP - RPxFP = 0.5, 95 % interval -0.1 to 1 (101 images of each set). In 98% of"
    )
    one = changed((3, 0.5, -0.1, 1), (0, 0, -1, 1)).sentence()
    assert "One other difference is as uncertain. In 98% of" in one
    assert "real NORMAL images may or may not be nearer to generated NORMAL images" in one
    two = changed((3, 0, -1, 1), (0, 0, -1, 1), (5, 0, -1, 1)).sentence()
    assert "2 other differences are as uncertain." in two


def test_without_differences_it_is_undecided_and_the_reason_is_said() -> None:
    none = HypothesisResult((), 0, THESIS, "the images are of nobody")
    assert none.result == "undecided"
    text = "It is undecided whether the hypothesis holds: the images are of nobody. In 98%"
    assert none.sentence().startswith(text)


@pytest.mark.parametrize(
    "result", [HOLDS, changed((3, 0, -1, 1)), HypothesisResult((), 0, THESIS, "few")]
)
def test_a_record_is_read_as_it_was_written(result: HypothesisResult) -> None:
    record = result.as_record()
    assert record["result"] == result.result
    assert record["share"] == 0.98
    assert HypothesisResult.from_record(record) == result


def test_the_record_has_each_difference_by_name() -> None:
    record = changed((1, 0.5, -0.5, 1.5)).as_record()
    assert record["n"] == 101
    assert record["differences"]["RNxFP-RNxFN"] == {"value": 0.5, "low": -0.5, "high": 1.5}
    assert "reason" not in record


def test_a_record_of_an_older_version_is_undecided() -> None:
    old = {
        "holds": True,
        "largest_same": "RPxFP",
        "largest_same_mean": 3.649,
        "smallest_different": "FNxFP",
        "smallest_different_mean": 76.63,
        "share": 0.98,
    }
    result = HypothesisResult.from_record(old)
    assert result.result == "undecided"
    assert result.thesis == THESIS
    assert "computed no intervals" in result.sentence()
