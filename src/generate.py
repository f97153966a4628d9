"""Draw images from a trained generator: `python -m src.generate --class pneumonia --out DIR`.

Images lie in Kaggle's layout, DIR/train/PNEUMONIA/*.png, beside a table that says of each where it
comes from. Image number i of a seed is always the same file, however many are drawn.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .common.errors import UserError, report_errors
from .data.classes import CLASSES
from .models.interpolation import FORMATS
from .models.sampling import LEAST_TRUNCATION

if TYPE_CHECKING:
    import torch

    from .models.image_sets import ImageStream
    from .privacy.copy_filter import CopyFilter


@dataclass(frozen=True)
class Source:
    """Generators to draw from, and the seed of the noise."""

    label: str | None = None  # the class; None for both, or for that of ``model``
    model: str | None = None  # a file or MLflow's address; None for those of the workspace
    revision: str | None = None  # of the project, instead of ``model``
    seed: int = 0
    truncation: float = 0.0
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class Output:
    """Files to write; None for those that are not wanted."""

    count: int
    folder: Path | None = None  # of images
    sheet: Path | None = None  # a picture of the first images
    walk: Path | None = None  # an animation through them
    frames: int = 16  # of the walk, from one image to the next
    reject_copies: bool = False  # from the folder
    overwrite: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and draw."""
    source, output = parse(argv)
    return report_errors(lambda: generate(source, output))


def parse(argv: Sequence[str] | None) -> tuple[Source, Output]:
    """Parse the command line, and refuse values and combinations that make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m src.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = [label.lower() for label in CLASSES]
    add("--class", dest="label", choices=names, help="else both, or the model's")
    add("--count", type=int, default=100, help="images (%(default)s)")
    add("--seed", type=int, default=0, help="names them (%(default)s)")
    add("--out", type=Path, metavar="DIR", help="where the images go")
    add("--grid", type=Path, metavar="FILE.png", help="a contact sheet of the first ones")
    add("--interpolate", type=Path, metavar="FILE", help="a walk through them: .gif, .png, .webp")
    add("--frames", type=int, default=16, help="of a walk, from one image to the next")
    truncated = "draw noise beyond it anew: less varied, more typical images; 0 draws all"
    add("--truncation", type=float, default=0.0, help=truncated)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--model", metavar="FILE|URI", help="generator.pt, or MLflow's models:/...")
    source.add_argument("--rev", help="take it from this commit, branch, tag or DVC experiment")
    rejected = "leave out of --out what is as near to a train image as copies, and count it"
    add("--reject-copies", action="store_true", help=rejected)
    add("--overwrite", action="store_true", help="replace what an earlier call wrote")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    given = parser.parse_args(argv)
    if fault := _fault(given):
        parser.error(fault)
    label = given.label.upper() if given.label else None
    return (
        Source(label, given.model, given.rev, given.seed, given.truncation, given.device),
        Output(
            given.count,
            given.out,
            given.grid,
            given.interpolate,
            given.frames,
            given.reject_copies,
            given.overwrite,
        ),
    )


def _fault(given: argparse.Namespace) -> str | None:
    """Return what is wrong with parsed arguments, or None."""
    if not (given.out or given.grid or given.interpolate):
        return "say what to write: --out DIR, --grid FILE or --interpolate FILE"
    for name, low, high in (("count", 1, 10**9), ("seed", 0, 2**32 - 1), ("frames", 1, 1000)):
        if not low <= getattr(given, name) <= high:
            return f"--{name}: it must be from {low} to {high}"
    if given.truncation and not LEAST_TRUNCATION <= given.truncation < math.inf:
        return f"--truncation: it must be 0, or {LEAST_TRUNCATION} or more"
    if given.grid and given.grid.suffix.lower() != ".png":
        return "--grid: the file's name must end in .png"
    if given.interpolate and given.interpolate.suffix.lower() not in FORMATS:
        return f"--interpolate: the file's name must end in one of {', '.join(FORMATS)}"
    if given.grid and given.grid == given.interpolate:
        return "--grid and --interpolate: give them files of two names"
    if given.reject_copies and (given.grid or given.interpolate or not given.out):
        return (
            "--reject-copies: it chooses among the images of --out; draw --grid and --interpolate "
            "without it"
        )
    if given.interpolate and given.count < 2:
        return "--interpolate: a walk needs a --count of 2 or more"
    return None


def generate(source: Source, output: Output) -> None:
    """Draw the images and write the requested files.

    Raises:
        UserError: if there is no such generator, or something is there that must not be replaced.
    """
    # Only here, since torch imports for seconds, and `--help` does not need it.
    from .common.devices import choose_device
    from .models.image_sets import write_contact_sheet, write_image_set, write_walk

    device = choose_device(source.device)
    labels = [source.label] if source.label or source.model else list(CLASSES)
    streams = [_open_stream(label, source, device) for label in labels]
    several = len(streams) > 1
    # Refuse before anything is drawn.
    for stream in streams:
        _check_output(stream, output, several)
    filters = _copy_filters(streams, device) if output.reject_copies else {}
    for stream in streams:
        if output.folder is not None:
            copies = filters[stream.label].copies if filters else None
            write_image_set(stream, output.folder, output.count, output.overwrite, copies)
        if output.sheet is not None:
            write_contact_sheet(stream, _of_class(output.sheet, stream, several), output.count)
        if output.walk is not None:
            file = _of_class(output.walk, stream, several)
            write_walk(stream, file, output.count, output.frames)


def _open_stream(label: str | None, source: Source, device: "torch.device") -> "ImageStream":
    """Load a generator; a class that is None is that of the model."""
    from .models.image_sets import ImageStream
    from .models.io import load_generator
    from .tracking.find_generator import find_generator

    with find_generator(label, source.model, source.revision) as file:
        saved = load_generator(file, device)
    stream = ImageStream(saved, device, source.seed, source.truncation)
    if label not in (None, stream.label):
        raise UserError(f"--model {source.model}: it draws {stream.label}, not {label}")
    return stream


def _of_class(file: Path, stream: "ImageStream", several: bool) -> Path:
    """Return a file's name, with the class in it where several are drawn."""
    return file.with_stem(f"{file.stem}-{stream.label.lower()}") if several else file


def _check_output(stream: "ImageStream", output: Output, several: bool) -> None:
    """Refuse to replace what was not asked to be replaced."""
    from .models.image_sets import check_folder, image_tables

    files = [_of_class(file, stream, several) for file in (output.sheet, output.walk) if file]
    if output.folder is not None:
        check_folder(output.folder, stream.label, output.overwrite)
        files += image_tables(output.folder, stream.label)
    for file in files:
        if file.exists() and not output.overwrite:
            raise UserError(f"{file}: it is there already; name another, or give --overwrite")


def _copy_filters(
    streams: Sequence["ImageStream"], device: "torch.device"
) -> "dict[str, CopyFilter]":
    """Build a filter for each class from the train images of the workspace."""
    from .common.paths import PARAMS
    from .config.settings import load_settings
    from .privacy.copy_filter import workspace_filters

    learnt_from = {stream.label: stream.saved.origin.images_sha256 for stream in streams}
    settings = load_settings(PARAMS)
    return workspace_filters(learnt_from, settings.privacy, settings.fid, device)


if __name__ == "__main__":
    sys.exit(main())
