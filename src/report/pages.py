"""The HTML page of the report."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..config.registry import METRICS, SOURCES, VARIETY
from ..metrics.protocol import KINDS
from ..privacy.perturbations import PERTURBATIONS
from .figures import COLOURS
from .findings import Findings, caveats, is_blind, unlike_real
from .templates import as_data_url, html_templates
from .wording import (
    CLASSIFIER_METRICS,
    EXPERIMENTS,
    KIND_TITLES,
    MEMBERSHIP_ATTACKS,
    SECTIONS,
    describe_extractor,
)


def render_report(
    findings: Findings,
    figures: Mapping[str, bytes],
    samples: Mapping[str, Mapping[int, bytes]],
    card: str,
    tracking_link: str,
    ui_is_started: bool,
) -> str:
    """Render the page as one HTML text that needs no other file.

    Every value from parameters and file names is escaped.

    Args:
        findings: the results of all stages.
        figures: PNG files by name.
        samples: PNG files of the sample grids, by class and epoch.
        card: the model card, as Markdown.
        tracking_link: the address of the runs in MLflow's UI.
        ui_is_started: whether a server has that address; else the reader must start the UI.
    """
    published = findings.published
    relative = published["mean"] / published.loc["RNxRP", "mean"]
    return (
        html_templates()
        .get_template("page.html")
        .render(
            findings=findings,
            class_names=findings.class_names,
            credit=SOURCES[findings.source],
            extractor_sentences=describe_extractor(findings.extractor),
            caveats=caveats(findings.scores, findings.extractor["name"]),
            is_doubtful=is_blind(findings.extractor["name"]) or bool(unlike_real(findings.scores)),
            rows=findings.description.to_dict("index"),
            published=published.to_dict("index"),
            classifiers=_by_metric(findings.classifiers, "value"),
            differences=_by_metric(findings.differences, "difference"),
            published_relative=relative.to_dict(),
            figures={name: as_data_url(content) for name, content in figures.items()},
            kinds=KINDS,
            kind_titles=KIND_TITLES,
            metric_names={name: metric.words for name, metric in METRICS.items()},
            measure_names={name: measure.words for name, measure in VARIETY.items()},
            metric_titles=CLASSIFIER_METRICS,
            experiment_titles=EXPERIMENTS,
            perturbations=list(PERTURBATIONS),
            membership={
                label: result["membership"]
                for label, result in findings.privacy.items()
                if "membership" in result
            },
            membership_attacks=MEMBERSHIP_ATTACKS,
            colours=COLOURS,
            sections=SECTIONS,
            samples={
                label: {epoch: as_data_url(content) for epoch, content in grids.items()}
                for label, grids in samples.items()
            },
            card=card,
            tracking_link=tracking_link,
            ui_is_started=ui_is_started,
        )
    )


def _by_metric(table: pd.DataFrame, value: str) -> list[dict[str, Any]]:
    """Return a row for each network, arm and fraction, with (value, low, high) of each metric."""
    rows: dict[tuple[str, str, float], dict[str, Any]] = {}
    for score in table.to_dict("records"):
        arm = {key: score[key] for key in ("network", "arm", "fraction")}
        row = rows.setdefault(tuple(arm.values()), arm)
        row[score["metric"]] = (score[value], score["low"], score["high"])
    return list(rows.values())
