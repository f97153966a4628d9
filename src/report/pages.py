"""The report's page, filled from what the stages measured."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..data.credits import CREDITS
from ..metrics.kid_prdc import METRIC_NAMES
from ..metrics.protocol import KINDS
from ..privacy.perturbations import DISTURBANCES
from .figures import COLOURS, KIND_NAMES
from .findings import Findings, differing_splits
from .templates import as_url, pages

CLASSIFIER_METRICS = {
    "roc_auc": "area under the ROC curve",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity at 95 % specificity",
    "calibration_error": "calibration error",
}


SECTIONS = {
    "distances": "Distances",
    "privacy": "Copies",
    "utility": "Use for a classifier",
    "images": "Images",
    "training": "Training",
    "data": "Data",
    "card": "Model card",
    "glossary": "Glossary",
    "parameters": "Parameters",
}


def render(
    findings: Findings,
    figures: Mapping[str, bytes],
    samples: Mapping[str, Mapping[int, bytes]],
    card: str,
    tracking_link: str,
    ui_is_started: bool,
) -> str:
    """The page as one HTML text that needs no other file.

    Everything that comes from parameters or file names is escaped.

    Args:
        findings: what it tells.
        figures: PNG files by name.
        samples: PNG files of what one noise became, by class and epoch.
        card: the model card, as Markdown.
        tracking_link: the address of the runs in MLflow's UI.
        ui_is_started: whether it is a server's; else a reader has to start it.
    """
    environment = pages()
    published = findings.published
    relative = published["mean"] / published.loc["RNxRP", "mean"]
    return environment.get_template("page.html").render(
        findings=findings,
        credit=CREDITS[findings.source],
        differing_splits=differing_splits(findings.scores, findings.extractor["name"]),
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
        colours=COLOURS,
        sections=SECTIONS,
        samples={
            label: {epoch: as_url(content) for epoch, content in grids.items()}
            for label, grids in samples.items()
        },
        card=card,
        tracking_link=tracking_link,
        ui_is_started=ui_is_started,
    )


def _by_metric(table: pd.DataFrame, value: str) -> list[dict[str, Any]]:
    """A row for each network, arm and fraction, with (value, low, high) under each metric."""
    rows: dict[tuple[str, str, float], dict[str, Any]] = {}
    for found in table.to_dict("records"):
        place = {key: found[key] for key in ("network", "arm", "fraction")}
        row = rows.setdefault(tuple(place.values()), place)
        row[found["metric"]] = (found[value], found["low"], found["high"])
    return list(rows.values())
