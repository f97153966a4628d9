"""The recorded learning curves and images in two figures: `python -m benchmarks.plot_curves`.

Reads what `benchmarks.learning_curve` left in reports/kermany and writes curves.png and images.png
beside it. Runs whose names differ only in a final `_seed<number>` share a colour. `--real FILE`
writes another picture, with real test images above the generated ones; it stays out of the
repository.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from PIL import Image

from benchmarks.learning_curve import FOLDER, SHOWN, SHOWN_COLUMNS, Images
from benchmarks.workspace import ROOT
from src.common.errors import UserError, report_errors
from src.common.files import write_file
from src.common.logging import logger
from src.common.outputs import read_array
from src.common.paths import array_path
from src.data.grids import png, read_png, tile
from src.report.figures import STYLE

BETWEEN_CLASSES = 0.45  # the two real classes apart, test split, 234 images of each
CLASSES = ("normal", "pneumonia")
TICKS = {
    "seconds": (0.1, 0.3, 1, 3, 10, 30),
    "images": (15, 30, 60, 125, 250, 500),
    "fid": (0.1, 0.2, 0.3, 0.45, 0.7, 1, 2, 4),
}
Run = tuple[str, dict[str, Any], list[dict[str, float]], Path]


def read_runs(folder: Path) -> list[Run]:
    """Each run's name without class and seed, what is known of it, its scores, and its file."""
    runs: list[Run] = []
    for path in sorted(folder.glob("*_seed*.json")):
        known = json.loads(path.read_text(encoding="utf-8"))
        with path.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
        name = path.stem.rpartition("_seed")[0] or path.stem
        runs.append((name.removesuffix(f"_{known['class']}"), known, rows, path))
    return runs


def draw(
    axes: Axes, label: str, against: str, runs: Sequence[Run], colours: Mapping[str, str]
) -> None:
    """One panel."""
    floor = None
    for name, known, rows, _ in runs:
        if known["class"] != label:
            continue
        floor = known["real_train_against_judge"]
        scale = 60 if against == "seconds" else 1000
        x = [row[against] / scale for row in rows]
        axes.plot(x, [row["fid"] for row in rows], color=colours[name], label=name)
    axes.axhline(BETWEEN_CLASSES, color="0.5", linestyle="--", linewidth=1)
    if isinstance(floor, float):
        axes.axhline(floor, color="0.5", linestyle=":", linewidth=1)
    unit = "minutes of training" if against == "seconds" else "thousand images seen"
    axes.set(title=label.upper(), xlabel=unit, xscale="log", yscale="log")
    for axis, ticks in ((axes.xaxis, TICKS[against]), (axes.yaxis, TICKS["fid"])):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())


def side_by_side(runs: Sequence[Run], real: Mapping[str, Images], path: Path) -> None:
    """Sample grids of each run's first seed, a column for each class."""
    first = {(name, str(known["class"])): file for name, known, _, file in reversed(runs)}
    names = sorted({name for name, _ in first})
    titles = [*(["real, test split"] if real else []), *names]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 1.5 * len(titles)), layout="constrained")
        panels = figure.subplots(len(titles), len(CLASSES), squeeze=False)
        for row, title in zip(panels, titles, strict=True):
            for axes, label in zip(row, CLASSES, strict=True):
                axes.axis("off")
                file = first.get((title, label))
                if title not in names:
                    grid = tile(real[label], SHOWN_COLUMNS)
                elif file is not None:
                    grid = read_png(file.with_suffix(".png"))
                else:
                    continue
                axes.imshow(grid, cmap="gray", vmin=0, vmax=255)
                axes.set_title(f"{label.upper()}, {title}", fontsize=9)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=110)
    # Grey, as all that it shows is: half the size.
    with Image.open(drawn) as picture:
        write_file(path, png(np.asarray(picture.convert("L"))))
    logger.info(f"written to {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot_curves", description=__doc__)
    parser.add_argument("--real", type=Path, help="where to write the picture with real images")
    arguments = parser.parse_args(argv)
    return report_errors(lambda: plot(arguments.real))


def plot(real_picture: Path | None) -> None:
    """Write the figures, and the picture with real images where one is wanted."""
    runs = [run for run in read_runs(FOLDER) if run[1]["judge"] == "test"]
    if not runs:
        raise UserError(f"{FOLDER} holds no run that was judged by the test split")
    palette = ("#0173b2", "#de8f05", "#029e73", "#d1495b", "#949494", "#7b4ea3", "#56b4e9")
    colours = dict(zip(sorted({name for name, *_ in runs}), cycle(palette)))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 7), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True)
        for row, label in zip(panels, CLASSES, strict=True):
            for axes, against in zip(row, ("images", "seconds"), strict=True):
                draw(axes, label, against, runs, colours)
            row[0].set_ylabel("Fréchet distance, inception 768")
        handles = {
            text: handle
            for axes in panels.flat
            for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside upper center",
            ncols=min(len(handles), 4),
            frameon=False,
        )
        figure.savefig(FOLDER / "curves.png", dpi=110)
    logger.info(f"written to {FOLDER / 'curves.png'}")
    side_by_side(runs, {}, FOLDER / "images.png")
    if real_picture is not None:
        if real_picture.resolve().is_relative_to(ROOT):
            raise UserError("--real: real images stay out of the repository; name another place")
        real = {label: read_array(array_path(label, "test"))[:SHOWN] for label in CLASSES}
        side_by_side(runs, real, real_picture)


if __name__ == "__main__":
    sys.exit(main())
