"""What the stages measured, as the page and the model card tell it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.evaluation.verdict import Verdict


@dataclass(frozen=True)
class Findings:
    """What the page and the model card tell."""

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
    generators: Mapping[str, str]  # by class, the SHA-256 of the generator's file
    parameters: Mapping[str, str]
