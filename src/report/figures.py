"""Figures of the report, as PNG files. Classes come by the names that the titles show."""

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..metrics.protocol import KINDS
from .wording import CLASSIFIER_METRICS, KIND_TITLES, LOSS_TITLES

# Blue and red as in the thesis, grey for floors, from seaborn's colour-blind palette.
COLOURS = {"same": "#0173b2", "different": "#d1495b", "floor": "#949494"}
LOSS_COLOURS = {"g": "#029e73", "d1": "#de8f05", "d2": "#0173b2"}
# Title, colour and line of the sets in nearest.csv; any other set is of perturbed train images.
NEAREST_SETS = {
    "train": ("train, other patients", "#949494", "-"),
    "held_out": ("held-out real", "#0173b2", "-"),
    "generated": ("generated", "#d1495b", "-"),
    "perturbed": ("perturbed copies", "#029e73", "--"),
}
PAIR_ROWS = ("generated", "nearest\ntrain image", "held-out\nreal", "nearest\ntrain image")
MAX_TITLE_LETTERS = 40  # in a line
STYLE: dict[Any, Any] = {
    "figure.dpi": 130,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 10,
}


@contextmanager
def drawing_style() -> Iterator[None]:
    """Draw in the project's style, whatever the user's settings of Matplotlib are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def loss_curves(histories: Mapping[str, pd.DataFrame]) -> bytes:
    """Draw each class's losses by epoch; ``histories`` have the columns epoch, g, d1 and d2."""
    with drawing_style():
        figure = Figure(figsize=(9.5, 3.4), layout="constrained")
        axes = figure.subplots(1, len(histories), squeeze=False, sharey=True)[0]
        for ax, (label, history) in zip(axes, histories.items(), strict=True):
            for column, colour in LOSS_COLOURS.items():
                marker = "o" if len(history) == 1 else None
                # Dashed above solid, because the discriminator's two losses often coincide.
                style = "--" if column == "d2" else "-"
                epochs, losses = history["epoch"], history[column]
                title = LOSS_TITLES[column]
                ax.plot(epochs, losses, style, label=title, color=colour, marker=marker)
            _set_title(ax, label)
            ax.set(xlabel="epoch")
        lowest = min(history[list(LOSS_COLOURS)].min().min() for history in histories.values())
        axes[0].set(ylabel="loss", ylim=(0, None) if lowest >= 0 else None)
        axes[-1].legend(frameon=False)
        return as_png(figure)


def sample_evolution(samples: Mapping[str, Mapping[int, NDArray[np.uint8]]]) -> bytes:
    """Draw each class's sample grids of one fixed noise at several epochs, side by side.

    Args:
        samples: by class and epoch, a grid as uint8 (h, w).
    """
    columns = max(len(grids) for grids in samples.values())
    with drawing_style():
        figure = Figure(figsize=(2.6 * columns, 2.0 * len(samples)), layout="constrained")
        axes = figure.subplots(len(samples), columns, squeeze=False)
        for row, (label, grids) in zip(axes, samples.items(), strict=True):
            for ax in row:
                ax.axis("off")
            for ax, (epoch, grid) in zip(row, sorted(grids.items()), strict=False):
                _show(ax, grid, f"{label}, epoch {epoch}", fontsize=8)
        return as_png(figure)


def real_beside_generated(
    pairs: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> bytes:
    """Draw each class's grid of real beside its grid of generated images, uint8 (h, w) each."""
    with drawing_style():
        figure = Figure(figsize=(10, 2.9 * len(pairs)), layout="constrained")
        axes = figure.subplots(len(pairs), 2, squeeze=False)
        for row, (label, grids) in zip(axes, pairs.items(), strict=True):
            for ax, name, grid in zip(row, ("real (test split)", "generated"), grids, strict=True):
                _show(ax, grid, f"{label}, {name}")
                ax.axis("off")
        return as_png(figure)


def distance_boxes(distances: pd.DataFrame) -> bytes:
    """Draw a box plot of the distances: same class blue, different classes red, floors grey.

    Args:
        distances: columns pair and distance.
    """
    table = distances.assign(kind=distances["pair"].map(KINDS).map(KIND_TITLES))
    palette = {KIND_TITLES[kind]: colour for kind, colour in COLOURS.items()}
    with drawing_style():
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        ax = figure.subplots()
        sns.boxplot(
            table,
            x="pair",
            y="distance",
            hue="kind",
            order=list(KINDS),
            palette=palette,
            dodge=False,
            width=0.6,
            fliersize=2,
            linewidth=0.9,
            ax=ax,
        )
        ax.set(xlabel="", ylabel="Fréchet distance", ylim=(0, None))
        ax.legend(title="", frameon=False)
        return as_png(figure)


def nearest_ratios(table: pd.DataFrame) -> bytes:
    """Draw the cumulative distribution of the distance ratio of each set, by class and space.

    A curve ends at the share of images that are not too far from every train image.

    Args:
        table: columns class, space, set, ratio and within_reach. Sets other than train, held_out
            and generated are of perturbed train images and are drawn as one.
    """
    classes, spaces = (table[column].unique() for column in ("class", "space"))
    with drawing_style():
        size = (4.6 * len(spaces), 2.9 * len(classes))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(classes), len(spaces), squeeze=False)
        for row, label in zip(axes, classes, strict=True):
            for ax, space in zip(row, spaces, strict=True):
                part = table[(table["class"] == label) & (table["space"] == space)]
                sets = part["set"].where(part["set"].isin(NEAREST_SETS), "perturbed")
                for name, (title, colour, style) in NEAREST_SETS.items():
                    ratios = np.sort(part.loc[(sets == name) & part["within_reach"], "ratio"])
                    shares = np.arange(1, len(ratios) + 1) / max((sets == name).sum(), 1)
                    ax.step(ratios, shares, style, where="post", label=title, color=colour)
                _set_title(ax, f"{label}, {space}")
                ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
        for ax in axes[-1]:
            ax.set(xlabel="nearest train image / nearest of another patient")
        for row in axes:
            row[0].set(ylabel="share of the images")
        axes[0][0].legend(frameon=False, loc="center", fontsize=8)
        return as_png(figure)


def closest_pairs(grids: Mapping[str, NDArray[np.uint8]]) -> bytes:
    """Draw each class's images that are nearest to a train image, above that train image.

    Args:
        grids: by class, four rows of images as uint8 (h, w): generated images, their nearest train
            images, held-out real images, and their nearest train images.
    """
    with drawing_style():
        figure = Figure(figsize=(10, 4.3 * len(grids)), layout="constrained")
        axes = figure.subplots(len(grids), 1, squeeze=False)[:, 0]
        for ax, (label, grid) in zip(axes, grids.items(), strict=True):
            _show(ax, grid, f"{label}, the closest first")
            ax.grid(visible=False)
            rows = (np.arange(len(PAIR_ROWS)) + 0.5) * grid.shape[0] / len(PAIR_ROWS)
            ax.set_yticks(rows, PAIR_ROWS, fontsize=8)
            ax.set_xticks([])
        return as_png(figure)


def classifier_scores(scores: pd.DataFrame) -> bytes:
    """Draw the area under the ROC curve of each arm against the fraction of real images.

    Args:
        scores: columns network, arm, fraction, metric, value, low and high.
    """
    table = scores[scores["metric"] == "roc_auc"]
    networks = table["network"].unique()
    with drawing_style():
        figure = Figure(figsize=(9.5, 3.9), layout="constrained")
        axes = figure.subplots(1, len(networks), squeeze=False, sharey=True)[0]
        colours = sns.color_palette("colorblind", table["arm"].nunique())
        fractions = sorted(fraction for fraction in table["fraction"].unique() if fraction > 0)
        for ax, network in zip(axes, networks, strict=True):
            arms = table[table["network"] == network].groupby("arm", sort=False)
            for number, (arm, part) in enumerate(arms):
                values = part.sort_values("fraction")
                shift = 0.08 * (number - len(arms) / 2)
                if (values["fraction"] == 0).all():
                    ax.axhline(values["value"].iloc[0], color=colours[number], ls=":", label=arm)
                    continue
                bars = [values["value"] - values["low"], values["high"] - values["value"]]
                x = np.arange(len(values)) + shift
                ax.errorbar(x, values["value"], bars, color=colours[number], marker="o", label=arm)
            ax.set_xticks(range(len(fractions)), [f"{fraction:.0%}" for fraction in fractions])
            ax.set(title=network, xlabel="real images")
        axes[0].set(ylabel=CLASSIFIER_METRICS["roc_auc"])
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, frameon=False, loc="outside lower center", ncols=len(arms))
        return as_png(figure)


def scarcity_gains(comparisons: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the gain in ROC AUC over classical augmentation against the number of real patients.

    Args:
        comparisons: of ``src.utility.comparisons.compare``; the positive control is dashed.
    """
    table = pd.DataFrame(comparisons)
    networks, arms = table["network"].unique(), table["arm"].unique()
    counts = sorted(table["patients"].unique())
    colours = dict(zip(arms, sns.color_palette("colorblind", len(arms)), strict=True))
    with drawing_style():
        figure = Figure(figsize=(9.5, 3.9), layout="constrained")
        axes = figure.subplots(1, len(networks), squeeze=False, sharey=True)[0]
        for ax, network in zip(axes, networks, strict=True):
            ax.axhline(0, color=COLOURS["floor"])
            of_network = table[table["network"] == network]
            for number, (arm, part) in enumerate(of_network.groupby("arm", sort=False)):
                values = part.sort_values("patients")
                gain = values["difference"]
                bars = [gain - values["low"], values["high"] - gain]
                x = values["patients"].map(counts.index) + 0.08 * (number - (len(arms) - 1) / 2)
                line = "--" if values["is_control"].all() else "-"
                ax.errorbar(x, gain, bars, color=colours[arm], marker="o", ls=line, label=arm)
            ax.set_xticks(range(len(counts)), [f"{count:.0f}" for count in counts])
            ax.set(title=network, xlabel="real patients trained on")
        axes[0].set(ylabel="gain in ROC AUC")
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, frameon=False, loc="outside lower center", ncols=len(arms))
        return as_png(figure)


def _show(ax: Axes, grid: NDArray[np.uint8], title: str, fontsize: int = 10) -> None:
    """Show a grey picture, uint8 (h, w), under a title."""
    ax.imshow(grid, cmap="gray", vmin=0, vmax=255)
    _set_title(ax, title, fontsize=fontsize)


def _set_title(ax: Axes, title: str, **style: Any) -> None:
    """Show a title as it is, dollar signs too; a long one takes several lines."""
    ax.set_title(textwrap.fill(title, MAX_TITLE_LETTERS), parse_math=False, **style)


def as_png(figure: Figure, bbox: str | None = None) -> bytes:
    """Encode a figure as a PNG file, without the time and the software that made it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, bbox_inches=bbox)
    return buffer.getvalue()
