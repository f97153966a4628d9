"""Tables, comparisons and sentences of the experiments on few real images."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..config.utility import UtilitySettings
from ..data.dataset import ImageSet
from ..metrics.intervals import CONFIDENCE
from .classifiers import Logits
from .experiments import CONTROL, EXPERIMENTS, SCARCITY, ArmResult, Experiment
from .statistics import holm, summarize_logits
from .verdict import signed

# Fixed before any result was seen. The level is the smallest one.
PRIMARY_NETWORK, PRIMARY_ARM = "residual", "real + both"
TESTED_METRIC = "roc_auc"
COLUMNS = (
    *("network", "arm", "fraction", "patients", "images", "metric"),
    *("value", "standard_error", "low", "high"),
    *("difference", "difference_standard_error", "difference_low", "difference_high", "p"),
)


def no_table() -> pd.DataFrame:
    """Return the table of an experiment that was not run."""
    return pd.DataFrame(columns=list(COLUMNS))


def tabulate(
    experiment: Experiment,
    results: Sequence[ArmResult],
    test: ImageSet,
    settings: UtilitySettings,
) -> pd.DataFrame:
    """Compute the scores of all arms, and their differences from the baseline.

    Returns:
        a row for each network, arm, fraction and metric, with ``COLUMNS``: the mean numbers of real
        patients and images trained on, the score, and the difference from the baseline, each with
        its interval; p is two-sided, of no difference, and not corrected.
    """
    logits: dict[tuple[str, str, float], list[Logits]] = {}
    sizes: dict[float, list[tuple[int, int]]] = {}
    for result in results:
        logits.setdefault((result.network, result.arm, result.level), []).append(result.test)
        sizes.setdefault(result.level, []).append((result.patients, result.images))
    scores, differences = summarize_logits(
        logits, test, settings, experiment.baseline, list(experiment.arms)
    )
    keys = ["network", "arm", "fraction", "metric"]
    table = scores.merge(
        differences.rename(
            columns={name: f"difference_{name}" for name in ("standard_error", "low", "high")}
        ),
        on=keys,
    )
    means = {level: pd.DataFrame(pairs).mean() for level, pairs in sizes.items()}
    for column, name in enumerate(("patients", "images")):
        table[name] = [float(means[level][column]) for level in table["fraction"]]
    return table[list(COLUMNS)]


def compare(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[dict[str, Any]]]:
    """List the comparisons of generated images with classical augmentation, by ROC AUC.

    One comparison is primary: it was fixed beforehand and counts as it is. All others, of both
    experiments, are corrected for their number together (Holm, 1979).

    Args:
        tables: of ``tabulate``, by the name of each experiment that was run.

    Returns:
        by experiment: network, arm, fraction, patients, difference, low, high, p, p_corrected,
        is_primary and is_control.
    """
    rows = []
    for experiment in EXPERIMENTS:
        if experiment.name not in tables:
            continue
        table = tables[experiment.name]
        tested = (table["metric"] == TESTED_METRIC) & table["arm"].isin(experiment.challengers)
        for row in table[tested].to_dict("records"):
            is_primary = bool(
                experiment is SCARCITY
                and (row["network"], row["arm"]) == (PRIMARY_NETWORK, PRIMARY_ARM)
                and row["fraction"] == table["fraction"].min()
            )
            rows.append(
                {
                    "experiment": experiment.name,
                    **{key: row[key] for key in ("network", "arm", "fraction", "patients")},
                    "difference": row["difference"],
                    "low": row["difference_low"],
                    "high": row["difference_high"],
                    "p": row["p"],
                    "p_corrected": row["p"],
                    "is_primary": is_primary,
                    "is_control": row["arm"] == CONTROL,
                }
            )
    others = [row for row in rows if not row["is_primary"]]
    for row, corrected in zip(others, holm([row["p"] for row in others]), strict=True):
        row["p_corrected"] = corrected
    return {
        name: [
            {key: value for key, value in row.items() if key != "experiment"}
            for row in rows
            if row["experiment"] == name
        ]
        for name in tables
    }


def describe_scarcity(comparisons: Sequence[Mapping[str, Any]], repeats: int) -> str:
    """Describe the primary comparison, and whether the experiment can show a gain."""
    (primary,) = [row for row in comparisons if row["is_primary"]]
    (control,) = [
        row
        for row in comparisons
        if row["is_control"]
        and (row["network"], row["fraction"]) == (primary["network"], primary["fraction"])
    ]
    sentence = (
        f"{_finding(primary['low'] > 0, primary['high'] < 0)} where real images are few. "
        f"Change in ROC AUC over classical augmentation: {_interval(primary)}, residual network, "
        f"{primary['fraction']:.3g} of the real train images ({primary['patients']:.0f} patients), "
        f"{repeats} draws with generators of their own. "
        f"As many real images instead: {_interval(control)}"
    )
    if control["low"] > 0:
        return f"{sentence}."
    return f"{sentence}, so the experiment is too small to show a gain."


def describe_imbalance(comparisons: Sequence[Mapping[str, Any]], repeats: int) -> str:
    """Describe the comparison at the lowest prevalence by the network of the primary one."""
    rarest = min(row["fraction"] for row in comparisons)
    (row,) = [
        row for row in comparisons if (row["network"], row["fraction"]) == (PRIMARY_NETWORK, rarest)
    ]
    is_significant = row["p_corrected"] < 1 - CONFIDENCE
    return (
        f"{_finding(is_significant and row['low'] > 0, is_significant and row['high'] < 0)} "
        f"where PNEUMONIA is rare. Change in ROC AUC over oversampling with classical "
        f"augmentation: {_interval(row)}, p = {row['p_corrected']:.2g} corrected for the number "
        f"of comparisons, residual network, {rarest:.3g} of the train images are PNEUMONIA, "
        f"{repeats} draws with generators of their own."
    )


def _finding(is_better: bool, is_worse: bool) -> str:
    """Return the first words of a sentence."""
    if is_better:
        return "Generated images improved the classifier"
    if is_worse:
        return "Generated images made the classifier worse"
    return "No gain by generated images was found"


def _interval(row: Mapping[str, Any]) -> str:
    """Format a difference with its interval."""
    low, high = signed(row["low"]), signed(row["high"])
    return f"{signed(row['difference'])} (95 % CI {low} to {high})"
