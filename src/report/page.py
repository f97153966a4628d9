"""The report's page, filled from what the stages measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.evaluation.comparison import METRIC_NAMES
from src.evaluation.disturbances import DISTURBANCES
from src.evaluation.protocol import KINDS
from src.evaluation.verdict import Verdict
from src.figures import COLOURS, KIND_NAMES
from src.report.templates import as_url, pages

CLASSIFIER_METRICS = {
    "roc_auc": "area under the ROC curve",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity at 95 % specificity",
    "calibration_error": "calibration error",
}


@dataclass(frozen=True)
class Findings:
    """What the page tells."""

    title: str
    source: str  # data.source
    counts: Mapping[str, Mapping[str, int]]  # images by split and class
    patients: Mapping[str, Mapping[str, int]]
    quality: Mapping[str, int]
    verdict: Verdict
    description: pd.DataFrame  # src.evaluation.protocol.describe
    published: pd.DataFrame  # src.evaluation.thesis
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]  # by class and metric, scores.csv
    privacy: Mapping[str, Mapping[str, Any]]  # by class, the metrics of privacy_eval
    quantile: float  # of other patients' images that count as near
    utility: Mapping[str, Any]  # the metrics of utility_eval
    classifiers: pd.DataFrame  # src.evaluation.utility.summarize, the scores
    differences: pd.DataFrame  # and the differences
    extractor: Mapping[str, Any]  # name, dims, and what else is known of it
    training: Mapping[str, Mapping[str, Any]]  # by class, the metrics of the training
    parameters: Mapping[str, str]


def render(findings: Findings, figures: Mapping[str, bytes]) -> str:
    """The page as one HTML text that needs no other file; ``figures`` are PNG files by name.

    Everything that comes from parameters or file names is escaped.
    """
    environment = pages()
    published = findings.published
    relative = published["mean"] / published.loc["RNxRP", "mean"]
    return environment.get_template("page.html").render(
        findings=findings,
        rows=findings.description.to_dict("index"),
        published=published.to_dict("index"),
        classifiers=_by_metric(findings.classifiers, "value"),
        differences=_by_metric(findings.differences, "difference"),
        published_relative=relative.to_dict(),
        figures={name: as_url(content) for name, content in figures.items()},
        kinds=KINDS,
        kind_names=KIND_NAMES,
        metric_names=METRIC_NAMES,
        metric_titles=CLASSIFIER_METRICS,
        disturbances=list(DISTURBANCES),
        quantile=findings.quantile,
        colours=COLOURS,
    )


def _by_metric(table: pd.DataFrame, value: str) -> list[dict[str, Any]]:
    """A row for each network, arm and fraction, with (value, low, high) under each metric."""
    rows: dict[tuple[str, str, float], dict[str, Any]] = {}
    for found in table.to_dict("records"):
        place = {key: found[key] for key in ("network", "arm", "fraction")}
        row = rows.setdefault(tuple(place.values()), place)
        row[found["metric"]] = (found[value], found["low"], found["high"])
    return list(rows.values())
