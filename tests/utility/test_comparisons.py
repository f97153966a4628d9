"""The primary comparison is fixed, all others are corrected, and sentences say what was found."""

import json

import numpy as np
import pandas as pd
import pytest

from src.utility.classifiers import NETWORKS
from src.utility.comparisons import (
    COLUMNS,
    compare,
    describe_imbalance,
    describe_scarcity,
    no_table,
    tabulate,
)
from src.utility.experiments import CONTROL, IMBALANCE, SCARCITY, ArmResult, Experiment
from src.utility.statistics import CLASSIFIER_SCORES, holm
from tests.utility.test_classifiers import SETTINGS, spots


def results(
    experiment: Experiment, levels: tuple[float, ...], gains: dict[str, float]
) -> list[ArmResult]:
    """Results whose arms separate the classes by 1 and a gain; five draws."""
    test = spots(400, 5)
    rng = np.random.default_rng(0)
    made = []
    for level in levels:
        for repeat in range(5):
            shared = rng.normal(size=len(test))
            for network in NETWORKS:
                for arm in experiment.arms:
                    strength = 1 + gains.get(arm, 0.0)
                    noise = 0.2 * rng.normal(size=len(test))
                    logits = shared + noise + strength * test.is_pneumonia
                    size = round(400 * level) + repeat
                    made.append(ArmResult(network, arm, level, "", logits, size // 2, size))
    return made


@pytest.fixture(scope="module")
def scarcity() -> pd.DataFrame:
    gains = {"real + both": 0.8, CONTROL: 1.2}
    return tabulate(SCARCITY, results(SCARCITY, (0.2, 0.05), gains), spots(400, 5), SETTINGS)


@pytest.fixture(scope="module")
def imbalance() -> pd.DataFrame:
    return tabulate(IMBALANCE, results(IMBALANCE, (0.1, 0.03), {}), spots(400, 5), SETTINGS)


def test_a_table_has_the_scores_of_every_arm_beside_its_difference(scarcity: pd.DataFrame) -> None:
    assert list(scarcity.columns) == list(COLUMNS) == list(no_table().columns)
    assert len(scarcity) == 2 * 2 * 5 * len(CLASSIFIER_SCORES)
    assert not scarcity.isna().any(axis=None)
    keys = ["network", "fraction", "metric"]
    wide = scarcity.pivot(index=keys, columns="arm")
    gap = wide["value"]["real + both"] - wide["value"]["real + classical"]
    np.testing.assert_allclose(wide["difference"]["real + both"], gap)
    baseline = scarcity[scarcity["arm"] == "real + classical"]
    assert (baseline[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    assert set(scarcity.loc[scarcity["fraction"] == 0.05, "images"]) == {22.0}  # 20 to 24
    assert set(scarcity.loc[scarcity["fraction"] == 0.05, "patients"]) == {10.8}


def test_the_primary_comparison_is_fixed_and_all_others_are_corrected_together(
    scarcity: pd.DataFrame, imbalance: pd.DataFrame
) -> None:
    found = compare({"scarcity": scarcity, "imbalance": imbalance})
    assert [len(found[name]) for name in ("scarcity", "imbalance")] == [12, 4]
    everything = found["scarcity"] + found["imbalance"]
    assert json.loads(json.dumps(everything)) == everything  # as the metrics are written
    (primary,) = [row for row in everything if row["is_primary"]]
    assert (primary["network"], primary["arm"], primary["fraction"]) == (
        "residual",
        "real + both",
        0.05,
    )
    assert primary["p_corrected"] == primary["p"]
    others = [row for row in everything if not row["is_primary"]]
    assert [row["p_corrected"] for row in others] == holm([row["p"] for row in others])
    table = scarcity[(scarcity["metric"] == "roc_auc") & (scarcity["arm"] == "real + both")]
    row = table[(table["network"] == "residual") & (table["fraction"] == 0.05)].iloc[0]
    assert (primary["difference"], primary["p"]) == (row["difference"], row["p"])


def test_without_scarcity_no_comparison_is_primary(imbalance: pd.DataFrame) -> None:
    found = compare({"imbalance": imbalance})
    assert list(found) == ["imbalance"]
    assert not any(row["is_primary"] for row in found["imbalance"])
    assert compare({}) == {}


def test_a_gain_is_told_with_its_control(scarcity: pd.DataFrame) -> None:
    sentence = describe_scarcity(compare({"scarcity": scarcity})["scarcity"], 5)
    assert sentence.startswith(
        "Generated images improved the classifier where real images are few. Change in ROC AUC "
        "over classical augmentation: +0."
    )
    assert "residual network, 0.05 of the real train images (11 patients), 5 draws" in sentence
    assert "As many real images instead: +0." in sentence
    assert "too small" not in sentence


def comparison(**changes: object) -> dict[str, object]:
    row = {"network": "residual", "arm": "real + both", "fraction": 0.05, "patients": 60.0}
    row |= {"difference": 0.01, "low": -0.01, "high": 0.03, "p": 0.3, "p_corrected": 0.3}
    return row | {"is_primary": True, "is_control": False} | changes


def test_no_gain_and_an_experiment_that_cannot_show_one_are_told() -> None:
    control = comparison(arm=CONTROL, is_primary=False, is_control=True)
    sentence = describe_scarcity([comparison(), control], 5)
    assert sentence.startswith("No gain by generated images was found where real images are few.")
    assert "(95 % CI -0.010 to +0.030), so the experiment is too small to show a gain." in sentence
    strong = control | {"low": 0.005}
    assert "too small" not in describe_scarcity([comparison(), strong], 5)
    worse = describe_scarcity([comparison(high=-0.001, low=-0.03), strong], 5)
    assert worse.startswith("Generated images made the classifier worse where")


def test_a_comparison_that_is_not_primary_counts_after_its_correction() -> None:
    other = {"arm": "oversampling + both", "is_primary": False, "low": 0.001, "fraction": 0.03}
    rows = [comparison(**other, p_corrected=0.2), comparison(**other | {"fraction": 0.1})]
    assert describe_imbalance(rows, 5).startswith("No gain by generated images was found")
    rows[0]["p_corrected"] = 0.01
    sentence = describe_imbalance(rows, 5)
    assert sentence.startswith("Generated images improved the classifier where PNEUMONIA is rare.")
    assert "p = 0.01 corrected for the number of comparisons" in sentence
    assert "0.03 of the train images are PNEUMONIA" in sentence
