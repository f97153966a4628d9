"""The recorded learning curves in one figure: `python -m benchmarks.plot_curves`.

Reads the CSV and JSON files of reports/kermany and writes curves.png beside them. Runs whose names
differ only in a final `_seed<number>` share a colour.
"""

import csv
import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.learning_curve import FOLDER
from src.figures import STYLE
from src.progress import say

BETWEEN_CLASSES = 0.45  # the two real classes apart, test split, 234 images of each
CLASSES = ("normal", "pneumonia")


def read_runs(folder: Path) -> list[tuple[str, dict[str, object], list[dict[str, float]]]]:
    """Each run's name without class and seed, what is known of it, and its scores."""
    runs = []
    for path in sorted(folder.glob("*.json")):
        known = json.loads(path.read_text(encoding="utf-8"))
        if "real_train_against_judge" not in known:
            continue
        with path.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
        name = path.stem.rpartition("_seed")[0] or path.stem
        runs.append((name.removesuffix(f"_{known['class']}"), known, rows))
    return runs


def draw(axes: Axes, label: str, against: str, folder: Path, colours: dict[str, str]) -> None:
    """One panel."""
    floor = None
    for name, known, rows in read_runs(folder):
        if known["class"] != label or known["judge"] != "test":
            continue
        floor = known["real_train_against_judge"]
        scale = 60 if against == "seconds" else 1000
        x = [row[against] / scale for row in rows]
        axes.plot(x, [row["fid"] for row in rows], color=colours[name], label=name)
    axes.axhline(BETWEEN_CLASSES, color="0.5", linestyle="--", linewidth=1)
    if isinstance(floor, float):
        axes.axhline(floor, color="0.5", linestyle=":", linewidth=1)
    unit = "minutes of training on two cores" if against == "seconds" else "thousand images seen"
    axes.set(title=label.upper(), xlabel=unit, xscale="log", yscale="log")


def main() -> int:
    """Write the figure."""
    palette = ("#0173b2", "#de8f05", "#029e73", "#d1495b", "#949494", "#7b4ea3")
    names = sorted({name for name, known, _ in read_runs(FOLDER) if known["judge"] == "test"})
    colours = dict(zip(names, palette, strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 7), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True)
        for row, label in zip(panels, CLASSES, strict=True):
            for axes, against in zip(row, ("images", "seconds"), strict=True):
                draw(axes, label, against, FOLDER, colours)
            row[0].set_ylabel("Fréchet distance, inception 768")
        handles = {
            text: handle
            for axes in panels.flat
            for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        panels[0, 1].legend(handles.values(), handles.keys(), frameon=False)
        figure.savefig(FOLDER / "curves.png", dpi=110)
    say(f"written to {FOLDER / 'curves.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
