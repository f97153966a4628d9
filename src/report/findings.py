"""Results of all stages, as the page and the model card show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..metrics.excess import excess
from ..metrics.hypothesis import HypothesisResult

if TYPE_CHECKING:  # a command that prints a sentence starts without pandas
    import pandas as pd

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]  # by class and metric, scores.csv
MIN_PRECISION = 0.1  # with less, generated images are unlike real ones, however near their mean is
BLIND_JUDGE = (
    "The judging classifier sees what distinguishes the classes and little else: it may take "
    "images for near that are unlike any X-ray. Look at them, and judge by Inception features."
)
MIN_SHIFT = 0.2  # fraction of the way from the floor to the other class; splits differ from here


@dataclass(frozen=True)
class Findings:
    """Results of all stages, for the page and the model card."""

    title: str
    source: str  # data.source
    class_names: Mapping[str, str]  # by class, data.names
    counts: Mapping[str, Mapping[str, int]]  # images by split and class
    patients: Mapping[str, Mapping[str, int]]
    quality: Mapping[str, Any]  # the metrics of preprocess, and images_without_patient
    verdict: HypothesisResult
    description: pd.DataFrame  # src.metrics.protocol.describe
    published: pd.DataFrame  # src.metrics.thesis
    scores: Scores
    variety: Scores  # by class and measure, variety.csv
    privacy: Mapping[str, Mapping[str, Any]]  # by class, the metrics of privacy_eval
    quantile: float  # fraction of other patients' images that count as near
    utility: Mapping[str, Any]  # the metrics of utility_eval
    classifiers: pd.DataFrame  # src.utility.statistics.summarize, the scores
    differences: pd.DataFrame  # of the same, the differences from classical augmentation
    extractor: Mapping[str, Any]  # the metrics of fid_eval: name, dims, and what depends on it
    training: Mapping[str, Mapping[str, Any]]  # by class, the metrics of the training
    generators: Mapping[str, str]  # by class, the SHA-256 of the generator's file
    parameters: Mapping[str, str]


def caveats(scores: Scores, extractor: str) -> list[str]:
    """Return the sentences that belong beside the verdict on the hypothesis.

    Args:
        scores: by class and metric.
        extractor: the extractor's name.
    """
    blind = [BLIND_JUDGE] if is_blind(extractor) else []
    return blind + unlike_real(scores) + differing_splits(scores, extractor)


def is_blind(extractor: str) -> bool:
    """Return whether an extractor may take images for real ones that are unlike any X-ray."""
    return extractor == "classifier"


def unlike_real(scores: Scores) -> list[str]:
    """Return a sentence for each class whose generated images do not lie among real ones.

    Noise is of no class, but may be nearer to one than the classes are to each other.
    """
    return [
        f"The generated {label} images are unlike real ones: {metrics['precision']['value']:.0%} "
        "of them lie among real images of the class (precision). The hypothesis compares distances "
        "alone, and may hold all the same."
        for label, metrics in scores.items()
        if "precision" in metrics and metrics["precision"]["value"] < MIN_PRECISION
    ]


def differing_splits(scores: Scores, extractor: str) -> list[str]:
    """Return a sentence for each class whose real train and test images lie far apart.

    In such features a perfect model of the train images has a large distance too. The judging
    classifier was trained on most of the train images, which may explain a part of the difference.

    Args:
        scores: by class and metric.
        extractor: the extractor's name.
    """
    why = (
        "The classifier was trained on most of these train images, which may explain a part of it."
        if extractor == "classifier"
        else "A perfect model of the train images would score the same."
    )
    sentences = []
    for label, metrics in scores.items():
        row = metrics.get("frechet", {})
        if not {"train_test_at_floor_n", "excess"} <= row.keys():
            continue
        distance = row["train_test_at_floor_n"]
        share = excess(distance, row["floor"], row["other_class"])
        if share is not None and share >= MIN_SHIFT:
            sentences.append(
                f"The {label} splits differ in these features: real train and test images are "
                f"{distance:.3g} apart ({row['floor_n']} a side), {share:.0%} of the way from the "
                f"floor to the other class. {why}"
            )
    return sentences
