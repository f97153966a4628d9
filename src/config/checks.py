"""Checks that the choices of a training or of the evaluation exist and agree with each other.

The possible choices are in the tables of ``registry``, so a new entry needs no change here.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from .data import DataSettings, PreprocessSettings
from .fid import FidSettings
from .registry import (
    ARCHITECTURES,
    AUGMENTATIONS,
    EQUALIZATIONS,
    EXTRACTORS,
    FITS,
    INITIALIZATIONS,
    INPUT_SCALINGS,
    LOSSES,
    NORMALIZATIONS,
    OPTIMIZERS,
    RESIZES,
    SOURCES,
    UPSAMPLINGS,
)
from .train import TrainSettings

Choices = Iterable[tuple[str, str, Collection[str]]]  # key, given name, known names


def check_source(data: DataSettings) -> None:
    """Refuse a data set that does not exist, or whose path, classes or patients make no sense.

    Raises:
        ValueError: its message begins with the key.
    """
    for fault in chain(_unknown([("source", data.source, SOURCES)]), _data_faults(data)):
        raise ValueError(fault)


def _data_faults(data: DataSettings) -> Iterator[str]:
    """Yield a message for each parameter of the images that makes no sense."""
    if SOURCES[data.source].needs_path and not data.path:
        yield f"path: the {data.source} source needs one; name your folder or archive"
    normal, pneumonia = (
        {name.casefold() for name in names}
        for names in (data.classes.normal, data.classes.pneumonia)
    )
    if data.table.path and data.table.patient and data.patient_pattern:
        yield "patient_pattern: data.table.patient names a column of patients; empty one of them"
    splits = {
        "test_share": data.test_share,
        "test_list": data.test_list,
        "table.split": data.table.path and data.table.split,
    }
    first, *others = [key for key, value in splits.items() if value] or [""]
    if others:
        yield f"{first}: data.{others[0]} makes a split too; set one of them"
    if not re.search(r"\{[^{}]+\}", data.table.image):
        yield "table.image: it needs a column in braces, such as {patientId}.png"
    for name in normal & pneumonia:
        yield f"classes: {name!r} cannot stand for both classes"
    if data.names.normal.casefold() == data.names.pneumonia.casefold():
        yield f"names: both classes are called {data.names.normal!r}; give them different names"
    try:
        re.compile(data.patient_pattern)
    except (re.error, OverflowError, RecursionError) as error:
        yield f"patient_pattern: it is no regular expression: {error}"


def check_preprocessing(preprocess: PreprocessSettings) -> None:
    """Refuse a way to equalize images, or to make them square, that does not exist.

    Raises:
        ValueError: its message begins with the key.
    """
    choices = [
        ("equalize", preprocess.equalize, EQUALIZATIONS),
        ("fit", preprocess.fit, FITS),
    ]
    for fault in _unknown(choices):
        raise ValueError(fault)


def check_evaluation(fid: FidSettings) -> None:
    """Refuse names that do not exist, and widths or weights that the extractor does not have.

    Raises:
        ValueError: its message begins with the key.
    """
    choices = [
        ("extractor", fid.extractor, EXTRACTORS),
        ("resize", fid.resize, RESIZES),
        ("input_scaling", fid.input_scaling, INPUT_SCALINGS),
    ]
    for fault in _unknown(choices):
        raise ValueError(fault)
    extractor = EXTRACTORS[fid.extractor]
    if extractor.dims is not None and fid.dims not in extractor.dims:
        known = ", ".join(map(str, extractor.dims))
        raise ValueError(f"dims: it must be one of {known} with the {fid.extractor} extractor")
    if fid.weights and not extractor.weights:
        raise ValueError(f"weights must be empty with the {fid.extractor} extractor")


def check_training(train: TrainSettings) -> None:
    """Refuse names that do not exist and combinations that make no sense.

    Raises:
        ValueError: its message begins with the key.
    """
    # Combinations are checked only if all names are known.
    for fault in chain(_unknown_names(train), _combinations(train)):
        raise ValueError(fault)


def _unknown_names(train: TrainSettings) -> Iterator[str]:
    """Yield a message for each name that is in no table."""
    choices: Choices = [
        ("architecture", train.architecture, ARCHITECTURES),
        ("generator.upsampling", train.generator.upsampling, UPSAMPLINGS),
        ("generator.normalization", train.generator.normalization, NORMALIZATIONS),
        ("discriminator.normalization", train.discriminator.normalization, NORMALIZATIONS),
        ("initialization", train.initialization, INITIALIZATIONS),
        ("loss", train.loss, LOSSES),
        *(("augmentation", name, AUGMENTATIONS) for name in train.augmentation),
        ("optimizer.generator.name", train.optimizer.generator.name, OPTIMIZERS),
        ("optimizer.discriminator.name", train.optimizer.discriminator.name, OPTIMIZERS),
    ]
    return _unknown(choices)


def _unknown(choices: Choices) -> Iterator[str]:
    """Yield a message for each choice that does not exist."""
    for key, name, names in choices:
        if name not in names:
            yield f"{key}: it must be one of {', '.join(names)} (given: {name!r})"


def _combinations(train: TrainSettings) -> Iterator[str]:
    """Yield a message for each combination of choices that makes no sense."""
    for kernel, stride in zip(train.generator.kernels, train.generator.strides, strict=True):
        covers = UPSAMPLINGS[train.generator.upsampling].covers_stride
        if not covers and kernel < stride:
            yield f"generator.kernels: a kernel of {kernel} leaves holes at stride {stride}"
    loss = LOSSES[train.loss]
    if train.label_smoothing and not loss.has_labels:
        yield f"label_smoothing: the {train.loss} loss has no labels; set it to 0"
    if loss.needs_penalty and not train.gradient_penalty:
        yield f"gradient_penalty: the {train.loss} loss needs one above 0; 10 is usual"
    if loss.needs_both and train.discriminator_updates == "apart":
        yield (
            f"discriminator_updates: the {train.loss} loss compares real and generated images; "
            "set it to together"
        )
    if train.gradient_penalty and train.discriminator.normalization == "batch":
        yield (
            "gradient_penalty: with batch normalisation no image has a gradient of its own; set "
            "discriminator.normalization to none or spectral"
        )
    if len(set(train.augmentation)) < len(train.augmentation):
        yield "augmentation: the same one is named twice"
