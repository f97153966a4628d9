"""Compare two sets of images: `python -m src.evaluate REAL GENERATED`.

Each is a folder, a zip archive, a .npy array of images, or an .npz file of statistics as
pytorch-fid and this command save them. Every score stands beside its interval, and beside its
floor: what other patients' real images score against the real ones at the same sample size.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .common.devices import choose_device
from .common.errors import UserError, report_errors
from .common.files import sha256_of_file
from .data.download import INCEPTION_SHA256, cache_folder
from .data.image_files import read_images
from .data.patients import Patients
from .metrics.extractors import load_extractor
from .metrics.features import FeatureCache
from .metrics.frechet import FeatureSet, Moments, frechet_distance
from .metrics.inception import LAST_LAYER
from .metrics.kid_prdc import METRIC_NAMES, Metric
from .metrics.resizing import RESIZES, SCALINGS
from .metrics.scores import FeatureSample, Score, score_sets
from .metrics.statistics_file import load_statistics, save_statistics

SMALL = 50  # images of a set below which a warning says how little its scores tell
ALIKE = 1.1  # ratio of two sets' heights beyond which a warning tells of their sharpness
DIMS = {"inception": 2048, "pixels": 64}  # features, where no number of them is given


@dataclass(frozen=True)
class Given:
    """One side of the comparison: features of images, or only their statistics."""

    path: Path
    images: FeatureSample | None
    moments: Moments | None
    count: int | None  # None for statistics that do not say

    def gaussian(self) -> FeatureSet | Moments:
        """What the Fréchet distance takes."""
        if self.moments is not None:
            return self.moments
        assert self.images is not None
        return FeatureSet(self.images.features)


@dataclass
class Report:
    """What is found, to be printed."""

    features: str
    n: dict[str, int | None]
    scores: dict[Metric, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """The scores under their names, with n, features and warnings."""
        rest = {"n": self.n, "features": self.features, "warnings": self.warnings}
        return json.dumps({**self.scores, **rest}, indent=2, allow_nan=False)

    def as_table(self) -> str:
        """The scores as lines of text."""
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
                f"{METRIC_NAMES[metric]:<18}{score['value']:>12.4g}{between:>26}{at_floor[0]:>7}"
                f"{at_floor[1]:>12}{at_floor[2]:>12}"
            )
        if "frechet" in self.scores:
            found = self.scores["frechet"]["infinite"]
            told = "too few images, or none, to tell" if found is None else f"{found:.4g}"
            lines.append(f"Fréchet distance at infinitely many images: {told}")
        lines += [
            "floor: real images against other real ones, at n images a side; score: generated ones "
            "at that size"
        ]
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def evaluate(arguments: argparse.Namespace) -> Report:
    """Compare the two sets.

    Raises:
        UserError: naming what cannot be used.
    """
    if arguments.features == "inception" and arguments.dims not in LAST_LAYER:
        known = ", ".join(str(dims) for dims in LAST_LAYER)
        raise UserError(f"--dims: inception has {known} features, not {arguments.dims}")
    device = choose_device(arguments.device)
    made_by = describe(arguments)
    extractor = None
    given: list[Given] = []
    sizes: list[float] = []
    left_out: list[str] = []
    for path in (arguments.real, arguments.generated):
        if path.suffix == ".npz":
            found = load_statistics(path)
            if found.features not in (None, made_by):
                raise UserError(
                    f"{path}: its statistics are of {found.features}, not of {made_by}; compare by "
                    "the same features"
                )
            given.append(Given(path, None, found.moments, found.images))
            continue
        loaded = read_images(path, arguments.size)
        if len(loaded.images) < 2:
            raise UserError(f"{path}: one image has no distribution; give two or more")
        if loaded.skipped_files:
            left_out.append(
                f"{path}: {loaded.skipped_files} of its files have no image's name and were left "
                "out"
            )
        extractor = extractor or load_extractor(
            arguments.features,
            arguments.dims,
            arguments.weights,
            arguments.resize,
            arguments.input_scaling,
            device,
        )
        cache = FeatureCache(cache_folder() / "features")
        features = np.empty((len(loaded.images), extractor.dims), dtype=np.float32)
        for rows, same in by_shape(loaded.images):
            batch = arguments.batch
            if arguments.features != "module":  # which may take whole batches alone
                batch = min(batch, 1 << (len(same) - 1).bit_length())  # a few need no more
            features[rows] = cache.features(extractor, same, batch, device)
        patients = Patients.from_names(loaded.patient_ids)
        given.append(Given(path, FeatureSample(features, patients), None, len(features)))
        sizes.append(float(np.median([image.shape[0] for image in loaded.images])))
    real, generated = given
    for side, target in ((real, arguments.save_real), (generated, arguments.save_generated)):
        if target is not None:
            if side.images is None:
                raise UserError(f"{side.path}: it is a file of statistics already")
            save_statistics(target, FeatureSet(side.images.features), made_by)
    report = Report(made_by, {"real": real.count, "generated": generated.count})
    report.warnings += left_out
    if sizes and max(sizes) > ALIKE * min(sizes):
        report.warnings.append(
            f"the images are {sizes[0]:g} and {sizes[1]:g} pixels high, and a distance between "
            "them is mostly one of sharpness; --size makes them alike"
        )
    _add_scores(report, real, generated, arguments)
    return report


def by_shape(
    images: Sequence[NDArray[np.uint8]],
) -> list[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Images of equal size together, with their places."""
    places: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        places.setdefault(image.shape, []).append(index)
    return [(np.array(rows), np.stack([images[row] for row in rows])) for rows in places.values()]


def describe(arguments: argparse.Namespace) -> str:
    """The features in words, which are the same for the same features alone."""
    told = f"{arguments.dims} features of {arguments.features}"
    if arguments.features == "inception":
        told += f", resized as {arguments.resize} does"
        told += ", scaled twice" if arguments.input_scaling == "twice" else ""
    if arguments.weights is not None and arguments.weights.is_file():
        checksum = sha256_of_file(arguments.weights)
        if checksum != INCEPTION_SHA256:  # what is meant where nothing is said
            told += f", weights {checksum[:12]}"
    return told


def _add_scores(
    report: Report, real: Given, generated: Given, arguments: argparse.Namespace
) -> None:
    """The scores, or the one that statistics allow, and what to be warned of."""
    for side in (real, generated):
        if side.count is not None and side.count < SMALL:
            report.warnings.append(
                f"{side.path}: with {side.count} images a score says more about the sample than "
                "about its source; look at the interval and the floor"
            )
    width = arguments.dims
    for side in (real, generated):
        found = side.gaussian().mean.size
        if found != width:
            raise UserError(f"{side.path}: its statistics are of {found} features, not {width}")
        if side.count is not None and side.count <= width:
            report.warnings.append(
                f"{side.path}: {side.count} images are no more than {width} features, so the "
                "Fréchet distance is mostly bias"
            )
    if real.images is None or generated.images is None:
        report.warnings.append("statistics have no images: no interval, no floor, no other score")
        value = frechet_distance(real.gaussian(), generated.gaussian())
        told = Score("frechet", value, 0, 0, None, None).numbers()
        counts = {"n_real": real.count, "n_fake": generated.count}
        report.scores["frechet"] = told | counts | {"infinite": None}
        return
    no_interval, no_floor = [], []
    for score in score_sets(
        real.images, generated.images, arguments.neighbours, arguments.draws, arguments.seed
    ):
        report.scores[score.metric] = score.numbers()
        if score.metric == "frechet":
            report.scores[score.metric]["infinite"] = score.infinite
        if score.interval is None:
            no_interval.append(METRIC_NAMES[score.metric])
        if score.floor is None:
            no_floor.append(METRIC_NAMES[score.metric])
    if no_interval:
        report.warnings.append(
            f"{', '.join(no_interval)}: too few images or patients for an interval, or one patient "
            "has too large a share of them"
        )
    if no_floor:
        report.warnings.append(f"{', '.join(no_floor)}: too few real images for a floor")
    if "precision" not in report.scores:
        report.warnings.append(
            f"precision, recall, density and coverage need more than {arguments.neighbours} images"
        )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m src.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("real", type=Path, help="real images, or their statistics")
    parser.add_argument("generated", type=Path, help="generated images, or their statistics")
    parser.add_argument(
        "--features", choices=("inception", "pixels", "module"), default="inception"
    )
    parser.add_argument(
        "--dims", type=int, help="width of the features; else 2048 of inception, 64 pixels"
    )
    parser.add_argument(
        "--weights", type=Path, help="of inception, else downloaded once; or the module's file"
    )
    parser.add_argument(
        "--resize", choices=tuple(RESIZES), default="pytorch-fid", help="as this package does"
    )
    parser.add_argument("--input-scaling", choices=tuple(SCALINGS), default="standard")
    parser.add_argument("--size", type=int, help="pixels a side that all images are resized to")
    parser.add_argument("--neighbours", type=int, default=5, help="k of precision, recall, ...")
    parser.add_argument("--draws", type=int, default=64, help="halves that an interval rests on")
    parser.add_argument("--batch", type=int, default=50, help="images in the network at once")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--save-real", type=Path, metavar="FILE.npz", help="its statistics")
    parser.add_argument("--save-generated", type=Path, metavar="FILE.npz", help="its statistics")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args(argv)
    for name, least in (
        ("dims", 1),
        ("neighbours", 1),
        ("draws", 2),
        ("batch", 1),
        ("seed", 0),
        ("size", 1),
    ):
        if getattr(arguments, name) is not None and getattr(arguments, name) < least:
            parser.error(f"--{name}: it must be {least} or more")
    if arguments.dims is None and arguments.features not in DIMS:
        parser.error(f"--dims: say how many features the {arguments.features} gives")
    arguments.dims = arguments.dims or DIMS[arguments.features]
    if arguments.weights is not None and arguments.features == "pixels":
        parser.error("--weights: pixels have none")
    for name in ("save_real", "save_generated"):
        file = getattr(arguments, name)
        if file is not None and file.suffix != ".npz":
            parser.error(f"--{name.replace('_', '-')}: the file's name must end in .npz")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison."""
    arguments = parse(argv)

    def work() -> None:
        with contextlib.redirect_stdout(sys.stderr):  # what tells of the progress
            report = evaluate(arguments)
        print(report.as_json() if arguments.json else report.as_table())

    return report_errors(work)


if __name__ == "__main__":
    sys.exit(main())
