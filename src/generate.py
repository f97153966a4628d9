"""Draw images from a trained generator: `python -m src.generate --class pneumonia --out DIR`.

Images lie in Kaggle's layout, DIR/train/PNEUMONIA/*.png, beside a table that says of each where it
comes from. Image number i of a seed is always the same file, however many are drawn.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from .common.devices import choose_device
from .common.errors import UserError, report_errors
from .common.files import (
    atomic_folder,
    atomic_write,
    sha256_of_array,
    write_file,
    write_json,
)
from .common.logging import logger
from .common.paths import HOME, PARAMS
from .common.progress import Progress
from .config.settings import ClassName, load_settings
from .data.classes import CLASSES
from .data.dataset import train_sets
from .metrics.extractors import choose_extractor
from .models.export import describe_generator
from .models.interpolation import FORMATS, encode_animation, interpolate_loop
from .models.io import LoadedGenerator, load_generator
from .models.sampling import (
    BATCH,
    LEAST_TRUNCATION,
    draw_images,
    draw_latents,
    encode_png,
    text_chunks,
)
from .privacy.copy_filter import CopyFilter, make_spaces
from .report.grids import tile
from .tracking.find_generator import find_generator

BLOCK = 16 * BATCH  # images that are held at once
MOST_COPIES = 0.5  # share of copies beyond which --reject-copies gives up,
ENOUGH = 50  # once so many images were drawn
GRID_COLUMNS = 10
GRID_MOST = 1000  # images of a contact sheet
STOPS_MOST = 100  # of a walk
NAME = "synthetic"  # how our files begin


class Drawn:
    """What a generator draws from a seed."""

    def __init__(self, saved: LoadedGenerator, device: torch.device, arguments: argparse.Namespace):
        self.saved = saved
        self.seed, self.truncation = arguments.seed, arguments.truncation
        self.facts: dict[str, Any] = describe_generator(saved)
        self._device = device

    @property
    def label(self) -> str:
        """The class."""
        return self.saved.origin.label

    def latents(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """The noise of images by their number."""
        width = self.saved.network.settings.latent_dim
        return draw_latents([self.seed] * len(indices), indices, width, self.truncation)

    def images(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Images of noise, (n, size, size)."""
        return draw_images(lambda noise: self.saved.network(noise.to(self._device)), latents)

    def facts_of(self, index: int) -> dict[str, Any]:
        """What the file of an image says of it."""
        return self.facts | {"seed": self.seed, "index": index, "truncation": self.truncation}


def generate(arguments: argparse.Namespace) -> None:
    """Write what is asked for.

    Raises:
        UserError: if there is no such generator, or something is there that must not be replaced.
    """
    device = choose_device(arguments.device)
    everything = [_load(label, arguments, device) for label in _labels(arguments)]
    several = len(everything) > 1
    for drawn in everything:
        for file in (arguments.grid, arguments.interpolate):
            if file is not None:
                _check_file(_of_class(file, drawn, several), arguments.overwrite)
        if arguments.out is not None:
            _check_folder(_folder(arguments.out, drawn.label), drawn.label, arguments.overwrite)
            for file in _tables(arguments.out, drawn.label):
                _check_file(file, arguments.overwrite)
    copies = _copy_filters(everything, device) if arguments.reject_copies else {}
    for drawn in everything:
        if arguments.out is not None:
            _write_images(drawn, arguments, copies.get(drawn.label))
        if arguments.grid is not None:
            _write_grid(drawn, _of_class(arguments.grid, drawn, several), arguments.count)
        if arguments.interpolate is not None:
            file = _of_class(arguments.interpolate, drawn, several)
            _write_walk(drawn, file, arguments.count, arguments.frames)


def _labels(arguments: argparse.Namespace) -> list[str | None]:
    """The classes to draw; None is that of the model that was named."""
    if arguments.label:
        return [arguments.label.upper()]
    return [None] if arguments.model else list(CLASSES)


def _load(label: str | None, arguments: argparse.Namespace, device: torch.device) -> Drawn:
    with find_generator(label, arguments.model, arguments.rev) as file:
        drawn = Drawn(load_generator(file, device), device, arguments)
    if label not in (None, drawn.label):
        raise UserError(f"--model {arguments.model}: it draws {drawn.label}, not {label}")
    return drawn


def _of_class(file: Path, drawn: Drawn, several: bool) -> Path:
    """A file's name, with the class in it where several are drawn."""
    return file.with_stem(f"{file.stem}-{drawn.label.lower()}") if several else file


def _check_file(file: Path, overwrite: bool) -> None:
    if file.exists() and not overwrite:
        raise UserError(f"{file}: it is there already; name another, or give --overwrite")


def _folder(out: Path, label: str) -> Path:
    return out / "train" / label


def _tables(out: Path, label: str) -> tuple[Path, Path]:
    """The table of a class's images, and their description."""
    name = f"{NAME}_{label.lower()}"
    return out / f"{name}.csv", out / f"{name}.json"


def _check_folder(folder: Path, label: str, overwrite: bool) -> None:
    """Refuse to replace what was not asked to be replaced, or is not ours.

    Raises:
        UserError: naming it.
    """
    if folder.is_symlink():
        raise UserError(f"{folder}: it is a link, and would be replaced; give another --out")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: it is no folder; give another --out")
    start = f"{NAME}_{label.lower()}_"
    strange = next((f for f in folder.iterdir() if not f.name.startswith(start)), None)
    if strange is not None:
        raise UserError(f"{strange}: it is not of this command; give another --out")
    if not overwrite and any(folder.iterdir()):
        raise UserError(
            f"{folder}: there are images already; give another --out, or --overwrite to replace "
            "them"
        )


def _write_images(drawn: Drawn, arguments: argparse.Namespace, copies: CopyFilter | None) -> None:
    """The folder of images, the table and the description; without copies if they are to go."""
    name = drawn.label.lower()
    count: int = arguments.count
    rows: list[dict[str, Any]] = []
    left_out: list[int] = []
    place = _folder(arguments.out, drawn.label)
    table_file, description_file = _tables(arguments.out, drawn.label)
    with (
        atomic_folder(place) as folder,
        Progress(f"drawing {drawn.label}", count, "images") as shown,
    ):
        while len(rows) < count:
            start = len(rows) + len(left_out)
            indices = range(start, start + min(BLOCK, count - len(rows)))
            images = drawn.images(drawn.latents(indices))
            keep = np.ones(len(images), dtype=bool) if copies is None else ~copies.copies(images)
            for index, image, good in zip(indices, images, keep, strict=True):
                if not good:
                    left_out.append(index)
                    continue
                facts = drawn.facts_of(index)
                file = f"{NAME}_{name}_{drawn.seed}_{index:06d}.png"
                (folder / file).write_bytes(encode_png(image, facts))
                rows.append({"file": f"train/{drawn.label}/{file}"} | facts)
            looked_at = len(rows) + len(left_out)
            if looked_at >= ENOUGH and len(left_out) > MOST_COPIES * looked_at:
                raise UserError(
                    f"--reject-copies: {len(left_out)} of the first {looked_at} images are as near "
                    "to a train image as a copy; see the report's verdict on this generator, and "
                    "train it anew"
                )
            shown.advance(int(keep.sum()))
        # Another process may have been quicker.
        _check_folder(place, drawn.label, arguments.overwrite)
        with (
            atomic_write(table_file) as table,
            atomic_write(description_file) as description,
        ):
            pd.DataFrame(rows).to_csv(table, index=False, lineterminator="\n")
            origin = drawn.saved.origin
            write_json(
                description,
                drawn.facts
                | {
                    "images": count,
                    "seed": drawn.seed,
                    "truncation": drawn.truncation,
                    "left_out_as_copies": left_out if copies else None,
                    "image_size": drawn.saved.network.image_size,
                    "learnt_from": {
                        "source": origin.source,
                        "images": origin.images,
                        "sha256": origin.images_sha256,
                    },
                    "training": origin.training,
                },
            )
    if copies is not None:
        logger.info(
            f"{drawn.label}: {len(left_out)} of {count + len(left_out)} images were left out, as "
            "near to a train image as copies are"
        )
    logger.info(f"{drawn.label}: {count} images in {place}, described in {table_file} and .json")


def _copy_filters(everything: Sequence[Drawn], device: torch.device) -> dict[str, CopyFilter]:
    """For each class, measured from the train images of the workspace.

    Raises:
        UserError: if a generator learnt from others.
    """
    settings = load_settings(PARAMS)
    real = train_sets()
    for drawn in everything:
        if sha256_of_array(real[drawn.label].images) != drawn.saved.origin.images_sha256:
            raise UserError(
                f"--reject-copies: this generator did not learn from the {drawn.label} train "
                "images that are prepared here; `dvc repro preprocess` with its parameters "
                "prepares them"
            )
    extractor, _ = choose_extractor(settings.fid, HOME, lambda: real, device)
    spaces = make_spaces(extractor, settings.fid.batch_size, device)
    filters = {}
    for label in (drawn.label for drawn in everything):
        logger.info(f"{label}: measuring how near train images of other patients are")
        key = CLASSES.index(label)
        filters[label] = CopyFilter(real[label], spaces, settings.privacy, key)
    return filters


def _write_grid(drawn: Drawn, file: Path, count: int) -> None:
    """A contact sheet of the first images."""
    shown = min(count, GRID_MOST)
    sheet = tile(drawn.images(drawn.latents(range(shown))), min(GRID_COLUMNS, shown))
    write_file(file, encode_png(sheet, drawn.facts_of(0) | {"index": f"0 to {shown - 1}"}))
    logger.info(f"{drawn.label}: {shown} images in {file}")


def _write_walk(drawn: Drawn, file: Path, count: int, frames: int) -> None:
    """A walk through the first images."""
    stops = min(count, STOPS_MOST)
    images = drawn.images(interpolate_loop(drawn.latents(range(stops)), frames))
    facts = drawn.facts_of(0) | {"index": f"0 to {stops - 1}, and between"}
    write_file(file, encode_animation(images, file.suffix.lower(), text_chunks(facts)))
    logger.info(f"{drawn.label}: {len(images)} frames through {stops} images in {file}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m src.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--class", dest="label", choices=get_args(ClassName), help="else both, or the model's")
    add("--count", type=int, default=100, help="images (%(default)s)")
    add("--seed", type=int, default=0, help="names them (%(default)s)")
    add("--out", type=Path, metavar="DIR", help="where the images go")
    add("--grid", type=Path, metavar="FILE.png", help="a contact sheet of the first ones")
    add("--interpolate", type=Path, metavar="FILE", help="a walk through them: .gif, .png, .webp")
    add("--frames", type=int, default=16, help="of a walk, from one image to the next")
    add(
        "--truncation",
        type=float,
        default=0.0,
        help="draw noise beyond it anew: less varied, more typical images; 0 draws all",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--model", metavar="FILE|URI", help="generator.pt, or MLflow's models:/...")
    source.add_argument("--rev", help="take it from this commit, branch, tag or DVC experiment")
    add(
        "--reject-copies",
        action="store_true",
        help="leave out of --out what is as near to a train image as copies, and count it",
    )
    add("--overwrite", action="store_true", help="replace what an earlier call wrote")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args(argv)
    if not (arguments.out or arguments.grid or arguments.interpolate):
        parser.error("say what to write: --out DIR, --grid FILE or --interpolate FILE")
    for name, least, most in (
        ("count", 1, 10**9),
        ("seed", 0, 2**32 - 1),
        ("frames", 1, 1000),
    ):
        if not least <= getattr(arguments, name) <= most:
            parser.error(f"--{name}: it must be from {least} to {most}")
    if arguments.truncation and not LEAST_TRUNCATION <= arguments.truncation < np.inf:
        parser.error(f"--truncation: it must be 0, or {LEAST_TRUNCATION} or more")
    if arguments.grid and arguments.grid.suffix.lower() != ".png":
        parser.error("--grid: the file's name must end in .png")
    if arguments.interpolate and arguments.interpolate.suffix.lower() not in FORMATS:
        parser.error(f"--interpolate: the file's name must end in one of {', '.join(FORMATS)}")
    if arguments.grid and arguments.grid == arguments.interpolate:
        parser.error("--grid and --interpolate: give them files of two names")
    if arguments.reject_copies and (arguments.grid or arguments.interpolate or not arguments.out):
        parser.error(
            "--reject-copies: it chooses among the images of --out; draw --grid and --interpolate "
            "without it"
        )
    if arguments.interpolate and arguments.count < 2:
        parser.error("--interpolate: a walk needs a --count of 2 or more")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Draw."""
    arguments = parse(argv)
    return report_errors(lambda: generate(arguments))


if __name__ == "__main__":
    sys.exit(main())
