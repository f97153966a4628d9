"""Experiments side by side: the parameters in which they differ, and their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..data.classes import CLASSES
from .templates import as_score, pages

SHORT = 9  # letters of a revision, or of "workspace"


@dataclass(frozen=True)
class Experiment:
    """One row of the comparison."""

    name: str
    revision: str
    parameters: Mapping[str, str]  # by dotted name
    metrics: Mapping[str, Any]  # of fid, privacy and utility, as far as they are known


def compare(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """A row for each experiment; parameters that are alike in all of them are left out.

    A score that an experiment does not have is empty, and so is a parameter that it did not know.
    """
    names = sorted({name for found in experiments for name in found.parameters})
    differing = [
        name for name in names if len({found.parameters.get(name) for found in experiments}) > 1
    ]
    rows = []
    for found in experiments:
        row = {"experiment": found.name, "revision": found.revision[:SHORT]}
        row |= {name: found.parameters.get(name, "") for name in differing}
        rows.append(row | _scores(found.metrics))
    return pd.DataFrame(rows).fillna("")


def render_experiments(table: pd.DataFrame) -> str:
    """The page as one HTML text; names and parameters are escaped."""
    return (
        pages()
        .get_template("experiments.html")
        .render(columns=list(table.columns), rows=table.to_numpy().tolist())
    )


def _scores(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The scores by which experiments are compared, as texts."""
    fid, found = metrics.get("fid", {}), {}
    if "verdict" in fid:
        found["hypothesis holds"] = f"{fid['verdict']['share']:.0%} of draws"
    for label in CLASSES:
        scores = fid.get("scores", {}).get(label, {})
        distance = scores.get("frechet")
        if distance:
            found[f"{label}, Fréchet distance"] = as_score(distance["value"])
            if "low" in distance:
                between = f"{as_score(distance['low'])} to {as_score(distance['high'])}"
                found[f"{label}, 95 % interval"] = between
            if "score_at_floor_n" in distance:
                found[f"{label}, at n of the floor"] = as_score(distance["score_at_floor_n"])
                found[f"{label}, floor"] = as_score(distance["floor"])
        for name in ("precision", "recall"):
            if name in scores:
                found[f"{label}, {name}"] = as_score(scores[name]["value"])
        if label in metrics.get("privacy", {}):
            found[f"{label}, copies"] = metrics["privacy"][label]["verdict"]
    if "beaten" in metrics.get("utility", {}):
        found["helps a classifier"] = "yes" if metrics["utility"]["beaten"] else "no"
    return found
