"""Compare two sets of images: `python -m src.evaluate REAL GENERATED`.

Each is a folder, a zip archive, a .npy array of images, or an .npz file of statistics as
pytorch-fid and this command save them. Every score stands beside its interval, and beside its
floor: what other patients' real images score against the real ones at the same sample size.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from .common.errors import UserError, report_errors
from .config.registry import EQUALIZATIONS, EXTRACTORS, FITS, INPUT_SCALINGS, RESIZES


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and print the comparison."""
    arguments = parse(argv)

    def work() -> None:
        dims = EXTRACTORS[arguments.features].dims
        if dims is not None and arguments.dims not in dims:
            known = ", ".join(map(str, dims))
            raise UserError(
                f"--dims: {arguments.features} has {known} features, not {arguments.dims}"
            )
        # Only here, since torch imports for seconds, and `--help` does not need it.
        from .metrics.evaluation import FeatureSettings, Sampling, compare_files

        features = FeatureSettings(
            arguments.features,
            arguments.dims,
            arguments.weights,
            arguments.resize,
            arguments.input_scaling,
            arguments.size,
            arguments.fit,
            arguments.equalize,
            arguments.batch,
            arguments.device,
        )
        sampling = Sampling(arguments.neighbours, arguments.draws, arguments.seed)
        sets = arguments.real, arguments.generated
        with contextlib.redirect_stdout(sys.stderr):  # what tells of the progress
            report = compare_files(
                *sets, features, sampling, arguments.save_real, arguments.save_generated
            )
        print(report.as_json() if arguments.json else report.as_table())

    return report_errors(work)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line, and refuse values and combinations that make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m src.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("real", type=Path, help="real images, or their statistics")
    add("generated", type=Path, help="generated images, or their statistics")
    known = [name for name in EXTRACTORS if name != "classifier"]  # which learns from train images
    add("--features", choices=known, default="inception")
    add(
        "--dims",
        type=int,
        help="width of the features; else 2048 of inception, 64 pixels, 398 of radiomics",
    )
    add("--weights", type=Path, help="of inception, else downloaded once; or the module's file")
    add("--resize", choices=tuple(RESIZES), default="pytorch-fid", help="as this package does")
    add("--input-scaling", choices=tuple(INPUT_SCALINGS), default="standard")
    add("--size", type=int, help="pixels a side that all images are resized to")
    add(
        "--fit",
        choices=tuple(FITS),
        default="stretch",
        help="with --size, of images that are not square",
    )
    add(
        "--equalize",
        choices=tuple(EQUALIZATIONS),
        default="none",
        help="of the real images, as preprocess.equalize did before the training",
    )
    add("--neighbours", type=int, default=5, help="k of precision, recall, ...")
    add("--draws", type=int, default=64, help="halves that an interval rests on")
    add("--batch", type=int, default=50, help="images in the network at once")
    add("--seed", type=int, default=0, help="of the draws")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--save-real", type=Path, metavar="FILE.npz", help="its statistics")
    add("--save-generated", type=Path, metavar="FILE.npz", help="its statistics")
    add("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args(argv)
    least = {"dims": 1, "neighbours": 1, "draws": 2, "batch": 1, "seed": 0, "size": 1}
    for name, low in least.items():
        if getattr(arguments, name) is not None and getattr(arguments, name) < low:
            parser.error(f"--{name}: it must be {low} or more")
    arguments.dims = arguments.dims or EXTRACTORS[arguments.features].default_dims
    if arguments.dims is None:
        parser.error(f"--dims: say how many features the {arguments.features} gives")
    saves = arguments.save_real is not None or arguments.save_generated is not None
    if saves and EXTRACTORS[arguments.features].is_standardized:
        parser.error(f"--save-real, --save-generated: {arguments.features} has no statistics alone")
    if arguments.weights is not None and not EXTRACTORS[arguments.features].weights:
        parser.error(f"--weights: {arguments.features} have none")
    for name in ("save_real", "save_generated"):
        file = getattr(arguments, name)
        if file is not None and file.suffix.lower() != ".npz":
            parser.error(f"--{name.replace('_', '-')}: the file's name must end in .npz")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
