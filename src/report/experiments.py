"""Comparison of experiments: the parameters in which they differ, and their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..data.classes import CLASSES
from .templates import as_score, html_templates

REVISION_LETTERS = 9  # shown of a revision; "workspace" has as many


@dataclass(frozen=True)
class Experiment:
    """Parameters and metrics of one experiment, a row of the comparison."""

    name: str
    revision: str
    parameters: Mapping[str, str]  # by dotted name
    metrics: Mapping[str, Any]  # of fid, privacy and utility, where they exist


def compare(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """Tabulate experiments, one a row, without the parameters in which all agree.

    A parameter or score that an experiment does not have is empty. The classes have the names that
    the first experiment gives them.
    """
    names = sorted({name for each in experiments for name in each.parameters})
    differing = [
        name for name in names if len({each.parameters.get(name) for each in experiments}) > 1
    ]
    shown = experiments[0].parameters if experiments else {}
    class_names = {label: shown.get(f"data.names.{label.lower()}", label) for label in CLASSES}
    rows = []
    for each in experiments:
        row = {"experiment": each.name, "revision": each.revision[:REVISION_LETTERS]}
        row |= {name: each.parameters.get(name, "") for name in differing}
        rows.append(row | _scores(each.metrics, class_names))
    return pd.DataFrame(rows).fillna("")


def render_experiments(table: pd.DataFrame) -> str:
    """Render the page as one HTML text; names and parameters are escaped."""
    return (
        html_templates()
        .get_template("experiments.html")
        .render(columns=list(table.columns), rows=table.to_numpy().tolist())
    )


def _scores(metrics: Mapping[str, Any], class_names: Mapping[str, str]) -> dict[str, str]:
    """Format the scores by which experiments are compared."""
    fid, row = metrics.get("fid", {}), {}
    if "verdict" in fid:
        row["hypothesis"] = fid["verdict"].get("result", "")  # older records have none
        row["draws in its favour"] = f"{fid['verdict']['share']:.0%}"
    for label, name in class_names.items():
        scores = fid.get("scores", {}).get(label, {})
        distance = scores.get("frechet")
        if distance:
            row[f"{name}, Fréchet distance"] = as_score(distance["value"])
            if "low" in distance:
                between = f"{as_score(distance['low'])} to {as_score(distance['high'])}"
                row[f"{name}, 95 % interval"] = between
            if "score_at_floor_n" in distance:
                row[f"{name}, at n of the floor"] = as_score(distance["score_at_floor_n"])
                row[f"{name}, floor"] = as_score(distance["floor"])
        for score in ("precision", "recall"):
            if score in scores:
                row[f"{name}, {score}"] = as_score(scores[score]["value"])
        if label in metrics.get("privacy", {}):
            row[f"{name}, copies"] = metrics["privacy"][label]["verdict"]
    if "beaten" in metrics.get("utility", {}):
        row["helps a classifier"] = "yes" if metrics["utility"]["beaten"] else "no"
    return row
