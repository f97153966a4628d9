"""What the stages measured, as the page and the model card tell it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..metrics.hypothesis import Verdict

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]  # by class and metric, scores.csv
SHIFT = 0.2  # of the way from the floor to the other class, from which on splits differ


@dataclass(frozen=True)
class Findings:
    """What the page and the model card tell."""

    title: str
    source: str  # data.source
    counts: Mapping[str, Mapping[str, int]]  # images by split and class
    patients: Mapping[str, Mapping[str, int]]
    quality: Mapping[str, Any]  # the metrics of preprocess, and images_without_patient
    verdict: Verdict
    description: pd.DataFrame  # src.metrics.protocol.describe
    published: pd.DataFrame  # src.metrics.thesis
    scores: Scores
    privacy: Mapping[str, Mapping[str, Any]]  # by class, the metrics of privacy_eval
    quantile: float  # of other patients' images that count as near
    utility: Mapping[str, Any]  # the metrics of utility_eval
    classifiers: pd.DataFrame  # src.utility.trials.summarize, the scores
    differences: pd.DataFrame  # and the differences
    extractor: Mapping[str, Any]  # name, dims, and what else is known of it
    training: Mapping[str, Mapping[str, Any]]  # by class, the metrics of the training
    generators: Mapping[str, str]  # by class, the SHA-256 of the generator's file
    parameters: Mapping[str, str]


def differing_splits(scores: Scores, extractor: str) -> list[str]:
    """What must be known where real train images lie far from real test images, a sentence each.

    By such features a generator that has learnt its train images perfectly lies as far, so its
    distance is not its own fault alone. A classifier, though, has learnt from most of the train
    images, and may tell them from others for that.

    Args:
        scores: by class and metric.
        extractor: the name of what gave the features.
    """
    why = (
        "The classifier learnt from most of them, which may be a part of it."
        if extractor == "classifier"
        else "A perfect generator's would lie as far."
    )
    told = []
    for label, metrics in scores.items():
        row = metrics.get("frechet", {})
        if not {"train_test_at_floor_n", "excess"} <= row.keys():
            continue
        distance = row["train_test_at_floor_n"]
        share = (distance - row["floor"]) / (row["other_class"] - row["floor"])
        if share >= SHIFT:
            told.append(
                f"The {label} splits differ by these features: even its real train images lie "
                f"{distance:.3g} from the test images with {row['floor_n']} a side, "
                f"{share:.0%} of the way from the floor to the other class. {why}"
            )
    return told
