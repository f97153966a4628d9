"""The report's page, filled from what the stages measured."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from src.evaluation.comparison import METRIC_NAMES
from src.evaluation.protocol import KINDS
from src.evaluation.verdict import Verdict
from src.figures import COLOURS, KIND_NAMES


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
    extractor: Mapping[str, Any]  # name, dims, and what else is known of it
    training: Mapping[str, Mapping[str, Any]]  # by class, the metrics of the training
    parameters: Mapping[str, str]


def render(findings: Findings, figures: Mapping[str, bytes]) -> str:
    """The page as one HTML text that needs no other file; ``figures`` are PNG files by name.

    Everything that comes from parameters or file names is escaped.
    """
    environment = Environment(
        loader=PackageLoader("src.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = _score
    published = findings.published
    relative = published["mean"] / published.loc["RNxRP", "mean"]
    return environment.get_template("page.html").render(
        findings=findings,
        rows=findings.description.to_dict("index"),
        published=published.to_dict("index"),
        published_relative=relative.to_dict(),
        figures={
            name: "data:image/png;base64," + base64.b64encode(content).decode("ascii")
            for name, content in figures.items()
        },
        kinds=KINDS,
        kind_names=KIND_NAMES,
        metric_names=METRIC_NAMES,
        colours=COLOURS,
    )


def _score(value: float) -> str:
    """A distance with three significant digits or more, never in powers of ten."""
    if value == 0:
        return "0"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"
