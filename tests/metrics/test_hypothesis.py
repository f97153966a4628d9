from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from src.metrics.hypothesis import HypothesisResult, judge_hypothesis
from src.metrics.protocol import PAIRS
from tests.metrics.test_protocol import good_fake, run, swapped_fake


def test_the_hypothesis_holds_for_good_fakes_and_fails_for_swapped_ones() -> None:
    good, swapped = judge_hypothesis(run()), judge_hypothesis(run(swapped_fake))
    assert good.holds
    assert good.share == 1
    assert good.largest_same_mean < good.smallest_different_mean
    assert not swapped.holds
    assert swapped.share == 0
    assert (good.largest_same, good.smallest_different) == ("RNxFN", "FNxFP")
    assert (swapped.largest_same, swapped.smallest_different) == ("RNxFN", "RPxFN")


def test_the_sentence_of_the_verdict() -> None:
    good = HypothesisResult(True, "RNxFN", 0.51234, "RNxRP", 2, 0.98)
    assert good.sentence() == (
        "The hypothesis holds: the largest same-class mean (RNxFN, 0.5123) lies below the smallest "
        "different-class mean (RNxRP, 2). Judged alone, 98% of the iterations support it."
    )
    bad = replace(good, holds=False, share=0.0).sentence()
    assert bad.startswith("The hypothesis does not hold: the largest same-class mean (RNxFN, ")
    assert " does not lie below the smallest " in bad
    assert bad.endswith("Judged alone, 0% of the iterations support it.")


def test_equal_distances_do_not_support_the_hypothesis() -> None:
    rows = [{"iteration": 0, "pair": pair, "distance": 1.0} for pair in PAIRS]
    verdict = judge_hypothesis(pd.DataFrame(rows))
    assert not verdict.holds
    assert verdict.share == 0


def test_the_share_counts_the_iterations_in_which_it_holds() -> None:
    def mixed(name: str, iteration: int) -> NDArray[np.float32]:
        return (good_fake if iteration % 4 else swapped_fake)(name, iteration)

    assert judge_hypothesis(run(mixed, iterations=8)).share == pytest.approx(6 / 8)
