"""Titles and sentences of the report that depend on the name of a metric, extractor or class."""

import re
from collections.abc import Mapping
from typing import Any

from ..data.classes import CLASSES

KIND_TITLES = {"same": "same class", "different": "different classes", "floor": "floor"}
CLASSIFIER_METRICS = {
    "roc_auc": "area under the ROC curve",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity at 95 % specificity",
    "calibration_error": "calibration error",
    "prior_corrected_calibration_error": "calibration error at the test prevalence",
}
MEMBERSHIP_ATTACKS = {
    "clean": ("other half", "the other generator"),
    "other half": ("other half", "train images of other patients"),
    "test split": ("test split", "train images of other patients"),
}  # by the names in privacy.json: the non-members, and the reference of the score
# Sections of utility.json, and what they are called.
EXPERIMENTS = {"scarcity": "Few real images", "imbalance": "Rare PNEUMONIA"}
NOT_RUN = "not run; `make real EXPERIMENTS=1` runs it on real images."
LOSS_TITLES = {
    "g": "generator",
    "d1": "discriminator on generated",
    "d2": "discriminator on real",
}

# Sections of the page by their anchors, in order.
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

# Each is filled from the extractor's entry in fid.json.
EXTRACTORS = {
    "classifier": (
        "The {dims} features are those of a small classifier that was trained to distinguish the "
        "two real classes. Its balanced accuracy is {held_out_accuracy:.1%} on {held_out_images} "
        "train images of patients that it had not seen. Such features favour the hypothesis: they "
        "measure above all what distinguishes the classes. Those of the Inception network do not."
    ),
    "inception": (
        "The {dims} features are those of the FID Inception network of 2015-12-05. Images are "
        "resized to 299 pixels as {resize} does, and the grey channel is repeated."
    ),
    "pixels": (
        "The features are grey values of images reduced to {dims} pixels. They are a weak "
        "baseline: they measure pose and exposure more than anatomy."
    ),
    "module": (
        "The {dims} features are those of a network given as a file, SHA-256 {weights_sha256}."
    ),
    "radiomics": (
        "The {dims} features are radiomic: statistics of grey values and textures, of the image "
        "and its wavelet bands, standardised by {reference_images} real train images. The "
        "logarithm of their Fréchet distance is the Fréchet radiomic distance."
    ),
}
OTHER_EXTRACTOR = "The {dims} features are those of {name}."
SCALED_TWICE = (
    " Pixel values were scaled twice, which may explain the thesis's low distances. Such distances "
    "are not those of the standard FID."
)
_CLASS = re.compile(rf"\b({'|'.join(CLASSES)})\b")


def experiment_sentences(utility: Mapping[str, Any]) -> dict[str, str]:
    """Return what each experiment found, or that it was not run, by its title.

    Args:
        utility: the metrics of utility_eval.
    """
    return {
        title: utility[name]["sentence"] if utility[name] else NOT_RUN
        for name, title in EXPERIMENTS.items()
    }


def with_class_names(text: str, names: Mapping[str, str]) -> str:
    """Put the names by which people know the classes in place of those of ``CLASSES``.

    Results, files and sentences of the library have the latter; pages and figures show the former.

    Args:
        text: a class of ``CLASSES``, or a text with some of them.
        names: by class, as ``config.data.ClassNames.by_class`` returns.
    """
    return _CLASS.sub(lambda found: names[found[0]], text)


def describe_extractor(extractor: Mapping[str, Any]) -> str:
    """Describe an extractor's features and their bias in some sentences.

    Args:
        extractor: its entry in fid.json: name, dims and what its sentence needs.
    """
    text = EXTRACTORS.get(extractor["name"], OTHER_EXTRACTOR).format_map(extractor)
    return text + (SCALED_TWICE if extractor.get("input_scaling") == "twice" else "")
