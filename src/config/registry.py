"""All choices by name: one table for each subject, one entry for each choice.

An entry describes the choice in words, states the facts that the checks of parameters need, and
names its code, which ``load`` imports at first use. So this module imports no code of a choice. A
new choice is its code and one entry here. Pages, commands, checks and documents take names and
words from these tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

ROOT = __package__.rpartition(".")[0]  # src, or the package that it is installed as


@dataclass(frozen=True)
class Entry:
    """A choice: its code as ``package.module:name`` below the library, and its description."""

    code: str
    words: str


@dataclass(frozen=True)
class Source(Entry):
    """A data set; its code is a ``data.sources.SourceReader``."""

    credit: str  # attribution that images, and models trained on them, must carry
    licence: str
    is_real: bool  # of patients
    notice: str  # first lines of the report and the model card
    disk_gib: float  # that a run needs
    needs_path: bool = False  # since nothing can be downloaded


@dataclass(frozen=True)
class Loss(Entry):
    """An adversarial loss."""

    has_labels: bool = False  # that ``label_smoothing`` can lower
    needs_penalty: bool = False
    needs_both: bool = False  # real and generated images in one update


@dataclass(frozen=True)
class Upsampling(Entry):
    """A layer that enlarges maps."""

    covers_stride: bool  # whatever its kernel; else a kernel below the stride leaves holes


@dataclass(frozen=True)
class Extractor(Entry):
    """A feature extractor; its code takes a ``metrics.extractors.ExtractorRequest``."""

    dims: tuple[int, ...] | None = None  # widths that it has; None is any
    default_dims: int | None = None  # of `python -m src.evaluate`; None must be given
    weights: str = ""  # the file that it may or must have; empty is none
    is_standardized: bool = False  # by real images of one size, so that it has no statistics alone


@dataclass(frozen=True)
class Metric(Entry):
    """A score of generated images against real ones; its code takes a ``Pair``."""

    bounds: tuple[float, float]
    is_distance: bool = False  # 0 for equal sets; else a share
    needs_neighbours: bool = False  # more than ``nearest_k`` images
    needs_thumbnails: bool = False  # of the images, beside their features


@dataclass(frozen=True)
class VarietyMeasure(Entry):
    """A measure of a set's variety; its code takes a ``metrics.variety.PixelSample``."""

    is_ratio: bool = True  # to that of real images, so that 1 is best; else it stands beside theirs


OF_CHILDREN = (
    "The generators were trained on chest X-rays of children. Read the result of the test for "
    "copies before you publish generated images. They are not for diagnosis."
)
SOURCES: Mapping[str, Source] = {
    "phantom": Source(
        "data.phantoms:PHANTOM",
        "procedural chest phantoms; nothing is downloaded",
        credit="procedural chest phantoms, not patients",
        licence="MIT",
        is_real=False,
        notice="The images are procedural phantoms, not patients. They show that the pipeline "
        "works, and nothing about real chest X-rays.",
        disk_gib=1.0,
    ),
    "kermany": Source(
        "data.kermany:KERMANY",
        "paediatric chest X-rays of Kermany, Zhang and Goldbaum",
        credit="Kermany, Zhang and Goldbaum, Mendeley Data, doi:10.17632/rscbjbr9sj",
        licence="CC BY 4.0",
        is_real=True,
        notice=OF_CHILDREN,
        disk_gib=6.0,
    ),
    "medmnist": Source(
        "data.medmnist:MEDMNIST",
        "PneumoniaMNIST, Kermany's images as arrays of 64, 128 or 224 pixels, without patients",
        credit="Yang et al., MedMNIST v2, doi:10.1038/s41597-022-01721-8, from Kermany, Zhang and "
        "Goldbaum, doi:10.17632/rscbjbr9sj",
        licence="CC BY 4.0",
        is_real=True,
        notice=OF_CHILDREN,
        disk_gib=3.0,
    ),
    "folder": Source(
        "data.folder:FOLDER",
        "a folder or zip archive of your own, in any nesting",
        credit="chest X-rays of a private collection",
        licence="as its owner states",
        is_real=True,
        notice="The generators were trained on chest X-rays of patients. Read the result of the "
        "test for copies before you publish generated images. They are not for diagnosis.",
        disk_gib=6.0,
        needs_path=True,
    ),
}

# Pairs of the classes ``Generator`` and ``Discriminator``, see models/architectures.py.
ARCHITECTURES: Mapping[str, Entry] = {
    "dcgan": Entry("models.networks:DCGAN", "DCGAN (Radford et al., 2016), the thesis's"),
}

LOSSES: Mapping[str, Loss] = {
    "bce": Loss("training.losses:BCE", "binary cross-entropy", has_labels=True),
    "hinge": Loss("training.losses:HINGE", "hinge loss"),
    "relativistic": Loss(
        "training.losses:RELATIVISTIC",
        "cross-entropy of pairs of a real and a generated image",
        needs_both=True,
    ),
    "wasserstein": Loss(
        "training.losses:WASSERSTEIN", "Wasserstein distance", needs_penalty=True, needs_both=True
    ),
}

OPTIMIZERS: Mapping[str, Entry] = {
    "adam": Entry("training.optimizers:make_adam", "Adam"),
    "rmsprop": Entry("training.optimizers:make_rmsprop", "RMSProp"),
    "sgd": Entry("training.optimizers:make_sgd", "stochastic gradient descent with momentum"),
}

AUGMENTATIONS: Mapping[str, Entry] = {
    "brightness": Entry("training.augmentation:BRIGHTNESS", "add a grey level"),
    "contrast": Entry("training.augmentation:CONTRAST", "scale about the mean"),
    "translation": Entry("training.augmentation:TRANSLATION", "shift by whole pixels"),
    "cutout": Entry("training.augmentation:CUTOUT", "set a square to zero"),
}

UPSAMPLINGS: Mapping[str, Upsampling] = {
    "transposed": Upsampling(
        "models.layers:SameConvTranspose2d", "transposed convolution", covers_stride=False
    ),
    "nearest": Upsampling(
        "models.layers:NearestConv2d", "nearest neighbour, then a convolution", covers_stride=True
    ),
}

NORMALIZATIONS: Mapping[str, Entry] = {
    "none": Entry("models.normalization:none", "no normalisation"),
    "batch": Entry("models.normalization:batch", "batch normalisation"),
    "spectral": Entry("models.normalization:spectral", "spectral normalisation"),
}

INITIALIZATIONS: Mapping[str, Entry] = {
    "xavier": Entry("models.initialization:xavier", "Glorot-uniform"),
    "dcgan": Entry("models.initialization:dcgan", "normal with a standard deviation of 0.02"),
}

EXTRACTORS: Mapping[str, Extractor] = {
    "classifier": Extractor(
        "metrics.extractors:open_classifier", "a small CNN trained on the real train split"
    ),
    "inception": Extractor(
        "metrics.extractors:open_inception",
        "the FID network, Inception-v3 of 2015",
        dims=(64, 192, 768, 2048),
        default_dims=2048,
        weights="downloaded once (91 MiB) where no file is named",
    ),
    "pixels": Extractor(
        "metrics.extractors:open_pixels", "grey values of the reduced image", default_dims=64
    ),
    "module": Extractor(
        "metrics.extractors:open_module",
        "a network of your own, TorchScript or exported",
        weights="its file",
    ),
    "radiomics": Extractor(
        "metrics.radiomics:open_radiomics",
        "radiomic features, whose distance is the Fréchet radiomic distance",
        dims=(398,),
        default_dims=398,
        is_standardized=True,
    ),
}

# What becomes of an image that is not square.
FITS: Mapping[str, Entry] = {
    "stretch": Entry("data.decode:stretch", "stretched, as in the thesis"),
    "crop": Entry("data.decode:crop", "cut about its centre"),
    "pad": Entry("data.decode:pad", "laid on black"),
}
# What becomes of the contrast of an original.
EQUALIZATIONS: Mapping[str, Entry] = {
    "none": Entry("data.equalization:keep", "as it is"),
    "clahe": Entry(
        "data.equalization:clahe",
        "contrast limited adaptive histogram equalization, with scikit-image's defaults",
    ),
    "percentile": Entry(
        "data.equalization:percentile", "its 1st percentile becomes black, its 99th white"
    ),
}
RESIZES: Mapping[str, Entry] = {
    "pytorch-fid": Entry("metrics.resizing:pytorch_fid", "bilinear between pixel centres"),
    "torch-fidelity": Entry("metrics.resizing:torch_fidelity", "bilinear as TensorFlow 1 does"),
    "clean-fid": Entry("metrics.resizing:clean_fid", "bicubic and antialiased by Pillow"),
}

INPUT_SCALINGS: Mapping[str, Entry] = {
    "standard": Entry("metrics.resizing:unchanged", "to [-1, 1]"),
    "twice": Entry("metrics.resizing:scaled_again", "once more, which may explain the thesis"),
}

METRICS: Mapping[str, Metric] = {
    # Unbiased, so it may fall below 0.
    "mmd": Metric(
        "metrics.kid_prdc:gaussian_mmd",
        "MMD",
        bounds=(-math.inf, math.inf),
        is_distance=True,
        needs_thumbnails=True,
    ),
    "frechet": Metric(
        "metrics.kid_prdc:frechet", "Fréchet distance", bounds=(0, math.inf), is_distance=True
    ),
    # Unbiased, so it may fall below 0.
    "kid": Metric("metrics.kid_prdc:kid", "KID", bounds=(-math.inf, math.inf), is_distance=True),
    "precision": Metric(
        "metrics.kid_prdc:precision", "precision", bounds=(0, 1), needs_neighbours=True
    ),
    "recall": Metric("metrics.kid_prdc:recall", "recall", bounds=(0, 1), needs_neighbours=True),
    "density": Metric(
        "metrics.kid_prdc:density", "density", bounds=(0, math.inf), needs_neighbours=True
    ),
    "coverage": Metric(
        "metrics.kid_prdc:coverage", "coverage", bounds=(0, 1), needs_neighbours=True
    ),
}

VARIETY: Mapping[str, VarietyMeasure] = {
    "image_means": VarietyMeasure("metrics.variety:image_means", "sd of image means"),
    "contrasts": VarietyMeasure("metrics.variety:contrasts", "sd of contrasts"),
    "pixels": VarietyMeasure("metrics.variety:pixels", "sd of pixels"),
    "normalised_pixels": VarietyMeasure(
        "metrics.variety:normalised_pixels", "sd of pixels, equal exposure"
    ),
    "normalised_dimensions": VarietyMeasure(
        "metrics.variety:normalised_dimensions", "dimensions, equal exposure"
    ),
    "features": VarietyMeasure("metrics.variety:features", "sd of features"),
    "vendi": VarietyMeasure("metrics.variety:vendi", "Vendi score"),
    "ms_ssim": VarietyMeasure("metrics.variety:ms_ssim", "MS-SSIM of random pairs", is_ratio=False),
}


def load(entry: Entry) -> Any:
    """Import the code of an entry."""
    module, _, name = entry.code.partition(":")
    return getattr(import_module(f"{ROOT}.{module}"), name)
