"""Comparison of two sets of images in a user's files.

A set is a folder, a zip archive, a ``.npy`` array, or an ``.npz`` file of statistics as pytorch-fid
and ``save_statistics`` write them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..common.devices import choose_device
from ..common.errors import UserError
from ..common.files import sha256_of_file
from ..config.registry import EXTRACTORS, METRICS, VARIETY
from ..data.download import INCEPTION_SHA256, cache_folder
from ..data.image_files import LoadedImages, holds_images, read_images
from ..data.patients import Patients
from .extractors import ExtractorRequest, open_extractor
from .features import FeatureCache, FeatureExtractor
from .frechet import FeatureSet, Moments, frechet_distance, frechet_parts
from .scores import FeatureSample, Score, score_sets
from .statistics_file import load_statistics, save_statistics
from .thumbnails import THUMBNAIL_PIXELS, thumbnails
from .variety import MAX_IMAGES, Images, reduce_images, score_variety

MIN_IMAGES = 50  # of a set, for scores without a warning
MAX_SIZE_RATIO = 1.1  # of the two sets' heights, for scores without a warning


@dataclass(frozen=True)
class FeatureSettings:
    """The network that computes features, and how images are resized and scaled for it."""

    kind: Literal["inception", "pixels", "module", "radiomics"] = "inception"
    dims: int = 2048  # number of features
    weights: Path | None = None  # file of the network; None downloads those of inception
    resize: str = "pytorch-fid"  # one of ``RESIZES``
    input_scaling: str = "standard"  # one of ``INPUT_SCALINGS``
    image_size: int | None = None  # pixels a side that images are resized to first
    fit: str = "stretch"  # of images that are not square, one of ``FITS``
    equalize: str = "none"  # of the real images, before the resize, one of ``EQUALIZATIONS``
    batch_size: int = 50
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def describe(self) -> str:
        """Describe the features in words, which are equal only for equal features."""
        words = f"{self.dims} features of {self.kind}"
        if self.kind == "inception":
            words += f", resized as {self.resize} does"
            words += ", scaled twice" if self.input_scaling == "twice" else ""
        if self.weights is not None and self.weights.is_file():
            checksum = sha256_of_file(self.weights)
            if checksum != INCEPTION_SHA256:  # the default, which goes without saying
                words += f", weights {checksum[:12]}"
        return words


@dataclass(frozen=True)
class Sampling:
    """Settings of the scores and their intervals."""

    nearest_k: int = 5  # neighbours of precision, recall, density and coverage
    resamples: int = 64  # halves that are scored for an interval
    seed: int = 0  # of the random halves


@dataclass(frozen=True)
class Side:
    """One set of the comparison: the features of its images, or only their statistics."""

    path: Path
    images: FeatureSample | None
    moments: Moments | None
    count: int | None  # images; None for statistics that do not say
    height: float | None = None  # pixels, the median; None for statistics
    reduced: Sequence[Images] = ()  # the images, of at most 64 pixels a side

    def gaussian(self) -> FeatureSet | Moments:
        """Return the mean and covariance of the features, for the Fréchet distance."""
        if self.moments is not None:
            return self.moments
        assert self.images is not None
        return FeatureSet(self.images.features)

    def save(self, file: Path, made_by: str) -> None:
        """Write the statistics of the images; ``made_by`` says what made the features.

        Raises:
            UserError: if the side has no images.
        """
        if self.images is None:
            raise UserError(f"{self.path}: it is a file of statistics already")
        save_statistics(file, FeatureSet(self.images.features), made_by)


@dataclass
class Report:
    """The scores of a comparison and its warnings, in printable forms."""

    features: str
    n: dict[str, int | None]
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    variety: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """Return JSON of the scores by name, with variety, n, features and warnings."""
        rest = {"variety": self.variety, "n": self.n}
        rest |= {"features": self.features, "warnings": self.warnings}
        return json.dumps({**self.scores, **rest}, indent=2, allow_nan=False)

    def as_table(self) -> str:
        """Return the scores as lines of text."""
        lines = [
            f"{self.n['real'] or '?'} real and {self.n['generated'] or '?'} generated images, "
            f"{self.features}",
            f"{'':<18}{'value':>12}{'95 % interval':>26}{'n':>7}{'score':>12}{'floor':>12}",
        ]
        for metric, score in self.scores.items():
            between = (
                f"{score['low']:.4g} to {score['high']:.4g}" if score["low"] is not None else "-"
            )
            at_floor = [
                "-" if score[key] is None else f"{score[key]:.4g}"
                for key in ("floor_n", "score_at_floor_n", "floor")
            ]
            lines.append(
                f"{METRICS[metric].words:<18}{score['value']:>12.4g}{between:>26}{at_floor[0]:>7}"
                f"{at_floor[1]:>12}{at_floor[2]:>12}"
            )
        if "frechet" in self.scores:
            infinite = self.scores["frechet"]["infinite"]
            limit = "too few images, or none, to tell" if infinite is None else f"{infinite:.4g}"
            lines.append(f"Fréchet distance at infinitely many images: {limit}")
            lines.append(
                "Fréchet distance in parts: means {means_part:.4g}, covariances "
                "{covariances_part:.4g}".format(**self.scores["frechet"])
            )
        lines += [
            "floor: real images against other real ones, at n images a side; score: generated ones "
            "at that size"
        ]
        drawn_from = {score.get("drawn_from") for score in self.scores.values()} - {None}
        lines += [f"intervals and floors: draws from {n} images a set" for n in drawn_from]
        lines += _variety_lines(self.variety)
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def _variety_lines(variety: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the measures of variety as lines of text, none if there are none."""
    if not variety:
        return []
    n, range_n = next((score["n"], score["range_n"]) for score in variety.values())
    title, halves = f"variety, {n} images a side", f"real halves of {range_n or 'none'}"
    lines = [f"{title:<30}{'value':>10}{'real':>10}{halves:>24}"]
    for name, score in variety.items():
        value, real, low, high = (
            "-" if score[key] is None else f"{score[key]:.4g}"
            for key in ("value", "real", "low", "high")
        )
        between = "-" if score["low"] is None else f"{low} to {high}"
        lines.append(f"{VARIETY[name].words:<30}{value:>10}{real:>10}{between:>24}")
    lines.append("where real is 1, values are ratios to the real images; below 1 is less varied")
    return lines


def compare_files(
    real: Path,
    generated: Path,
    features: FeatureSettings,
    sampling: Sampling,
    save_real: Path | None = None,
    save_generated: Path | None = None,
) -> Report:
    """Compare two sets of images by every score that they allow.

    Args:
        real: images, or their statistics.
        generated: images, or their statistics.
        features: the network that computes features.
        sampling: settings of the scores and their intervals.
        save_real: ``.npz`` file to write the real set's statistics to; None writes none.
        save_generated: ``.npz`` file to write the generated set's statistics to; None writes none.

    Raises:
        UserError: if a file cannot be used; the message names it.
    """
    # Read both sets and compute their features.
    reader = _SideReader(features)
    sides = reader.read(real, features.equalize), reader.read(generated)
    for side, target in zip(sides, (save_real, save_generated), strict=True):
        if target is not None:
            side.save(target, reader.made_by)
    # Compute the scores and collect the warnings.
    report = Report(reader.made_by, {"real": sides[0].count, "generated": sides[1].count})
    report.warnings += reader.warnings
    heights = [side.height for side in sides if side.height is not None]
    if heights and max(heights) > MAX_SIZE_RATIO * min(heights):
        report.warnings.append(
            f"the images are {heights[0]:g} and {heights[1]:g} pixels high, and a distance between "
            "them is mostly one of sharpness; --size makes them alike"
        )
    _warn_of_few_images(report, sides, features.dims)
    if sides[0].images is None or sides[1].images is None:
        _add_distance_alone(report, *sides)
    else:
        samples = sides[0].images, sides[1].images
        _add_scores(report, *samples, sampling)
        pictures = sides[0].reduced, sides[1].reduced
        report.variety = {
            score.measure: score.as_dict()
            for score in score_variety(*pictures, samples, MAX_IMAGES, sampling.seed)
        }
    return report


class _SideReader:
    """Reader of both sets, which loads the network with the first images."""

    def __init__(self, features: FeatureSettings) -> None:
        self.made_by = features.describe()
        self.warnings: list[str] = []  # of files that were left out
        self._features = features
        self._device = choose_device(features.device)
        self._extractor: FeatureExtractor | None = None

    def read(self, path: Path, equalize: str = "none") -> Side:
        """Read a set, equalize its images by a name in ``EQUALIZATIONS``, and compute features.

        Raises:
            UserError: if it cannot be used, or its statistics are of other features.
        """
        is_standardized = EXTRACTORS[self._features.kind].is_standardized
        if path.suffix.lower() == ".npz" and not holds_images(path):
            if is_standardized:
                raise UserError(
                    f"{path}: {self._features.kind} features are standardised by the real images "
                    "of each comparison; give images, no statistics"
                )
            saved = load_statistics(path)
            if saved.features not in (None, self.made_by):
                raise UserError(
                    f"{path}: its statistics are of {saved.features}, not of {self.made_by}; "
                    "compare by the same features"
                )
            return Side(path, None, saved.moments, saved.images)
        loaded = read_images(path, self._features.image_size, self._features.fit, equalize)
        if len(loaded.images) < 2:
            raise UserError(f"{path}: one image has no distribution; give two or more")
        if loaded.skipped_files:
            self.warnings.append(
                f"{path}: {loaded.skipped_files} of its files have no image's name and were left "
                "out"
            )
        if is_standardized and len({image.shape for image in loaded.images}) > 1:
            raise UserError(
                f"{path}: {self._features.kind} features depend on the size, and its images have "
                "several; --size makes them alike"
            )
        small = np.empty((len(loaded.images), THUMBNAIL_PIXELS), dtype=np.float32)
        for rows, same in group_by_shape(loaded.images):
            small[rows] = thumbnails(same)
        patients = Patients.from_names(loaded.patient_ids)
        images = FeatureSample(self._extract(loaded), patients, small)
        height = float(np.median([image.shape[0] for image in loaded.images]))
        return Side(path, images, None, len(images), height, reduce_images(loaded.images))

    def _extract(self, loaded: LoadedImages) -> NDArray[np.float32]:
        """Compute the features of images, float32 (n, dims)."""
        chosen = self._features
        if self._extractor is None:
            request = ExtractorRequest(
                chosen.dims,
                self._device,
                chosen.weights,
                chosen.resize,
                chosen.input_scaling,
                reference=lambda: [np.stack(loaded.images)],  # REAL, which is read first
            )
            self._extractor, _ = open_extractor(chosen.kind, request)
        cache = FeatureCache(cache_folder() / "features")
        features = np.empty((len(loaded.images), self._extractor.dims), dtype=np.float32)
        for rows, same in group_by_shape(loaded.images):
            batch = chosen.batch_size
            # A module may accept whole batches only; other networks take a few images alone.
            if chosen.kind != "module":
                batch = min(batch, 1 << (len(same) - 1).bit_length())
            features[rows] = cache.features(self._extractor, same, batch, self._device)
        return features


def group_by_shape(
    images: Sequence[NDArray[np.uint8]],
) -> list[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Stack images of equal size; return each stack with the indices of its images."""
    indices: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        indices.setdefault(image.shape, []).append(index)
    return [(np.array(rows), np.stack([images[row] for row in rows])) for rows in indices.values()]


def _warn_of_few_images(report: Report, sides: tuple[Side, Side], width: int) -> None:
    """Warn of sets that are too small for the number of features.

    Raises:
        UserError: if statistics are of another number of features.
    """
    for side in sides:
        if side.count is not None and side.count < MIN_IMAGES:
            report.warnings.append(
                f"{side.path}: with {side.count} images a score says more about the sample than "
                "about its source; look at the interval and the floor"
            )
    for side in sides:
        dims = side.gaussian().mean.size
        if dims != width:
            raise UserError(f"{side.path}: its statistics are of {dims} features, not {width}")
        if side.count is not None and side.count <= width:
            report.warnings.append(
                f"{side.path}: {side.count} images are no more than {width} features, so the "
                "Fréchet distance is mostly bias"
            )


def _add_distance_alone(report: Report, real: Side, generated: Side) -> None:
    """Add the Fréchet distance, the only score that statistics allow."""
    report.warnings.append("statistics have no images: no interval, no floor, no other score")
    sets = real.gaussian(), generated.gaussian()
    score = Score("frechet", frechet_distance(*sets), 0, 0, None, None, None, frechet_parts(*sets))
    counts = {"n_real": real.count, "n_fake": generated.count}
    report.scores["frechet"] = score.as_dict() | counts | score.frechet_as_dict()


def _add_scores(
    report: Report, real: FeatureSample, generated: FeatureSample, sampling: Sampling
) -> None:
    """Add every score, and warn of those without an interval or a floor."""
    no_interval, no_floor = [], []
    scores = score_sets(real, generated, sampling.nearest_k, sampling.resamples, sampling.seed)
    for score in scores:
        report.scores[score.metric] = score.as_dict()
        if score.metric == "frechet":
            report.scores[score.metric] |= score.frechet_as_dict()
        if score.interval is None:
            no_interval.append(METRICS[score.metric].words)
        if score.floor is None:
            no_floor.append(METRICS[score.metric].words)
    if no_interval:
        report.warnings.append(
            f"{', '.join(no_interval)}: too few images or patients for an interval, or one patient "
            "has too large a share of them"
        )
    if no_floor:
        report.warnings.append(f"{', '.join(no_floor)}: too few real images for a floor")
    if "precision" not in report.scores:
        report.warnings.append(
            f"precision, recall, density and coverage need more than {sampling.nearest_k} images"
        )
