"""The report's figures, as PNG bytes."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..metrics.protocol import KINDS

# Blue and red as in the thesis; floors in grey. Seaborn's colour-blind palette.
COLOURS = {"same": "#0173b2", "different": "#d1495b", "floor": "#949494"}
KIND_NAMES = {"same": "same class", "different": "different classes", "floor": "floor"}
LOSSES = {
    "g": ("generator", "#029e73"),
    "d1": ("discriminator on generated", "#de8f05"),
    "d2": ("discriminator on real", "#0173b2"),
}

# Sets of images, as the test for copies names them; any other one is of disturbed train images.
NEAREST_SETS = {
    "train": ("train, other patients", "#949494", "-"),
    "held_out": ("held-out real", "#0173b2", "-"),
    "generated": ("generated", "#d1495b", "-"),
    "disturbed": ("disturbed copies", "#029e73", "--"),
}

PAIR_ROWS = ("generated", "nearest\ntrain image", "held-out\nreal", "nearest\ntrain image")
STYLE: dict[Any, Any] = {
    "figure.dpi": 130,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 10,
}


def loss_curves(histories: Mapping[str, pd.DataFrame]) -> bytes:
    """Each class's losses by epoch; ``histories`` have the columns epoch, g, d1 and d2."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.4), layout="constrained")
        axes = figure.subplots(1, len(histories), squeeze=False, sharey=True)[0]
        for ax, (label, history) in zip(axes, histories.items(), strict=True):
            for column, (name, colour) in LOSSES.items():
                marker = "o" if len(history) == 1 else None
                # Dashed above solid, because the discriminator's two losses often coincide.
                style = "--" if column == "d2" else "-"
                epochs, losses = history["epoch"], history[column]
                ax.plot(epochs, losses, style, label=name, color=colour, marker=marker)
            ax.set(title=label, xlabel="epoch")
        lowest = min(history[list(LOSSES)].min().min() for history in histories.values())
        axes[0].set(ylabel="loss", ylim=(0, None) if lowest >= 0 else None)
        axes[-1].legend(frameon=False)
        return as_png(figure)


def sample_evolution(samples: Mapping[str, Mapping[int, NDArray[np.uint8]]]) -> bytes:
    """Each class's grids of one fixed noise at several epochs, side by side.

    Args:
        samples: by class, by epoch, a grid as uint8 (h, w).
    """
    columns = max(len(grids) for grids in samples.values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * columns, 2.0 * len(samples)), layout="constrained")
        axes = figure.subplots(len(samples), columns, squeeze=False)
        for row, (label, grids) in zip(axes, samples.items(), strict=True):
            for ax in row:
                ax.axis("off")
            for ax, (epoch, grid) in zip(row, sorted(grids.items()), strict=False):
                ax.imshow(grid, cmap="gray", vmin=0, vmax=255)
                ax.set_title(f"{label}, epoch {epoch}", fontsize=8)
        return as_png(figure)


def real_beside_generated(
    pairs: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> bytes:
    """For each class a grid of real and a grid of generated images, uint8 (h, w) each."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 2.9 * len(pairs)), layout="constrained")
        axes = figure.subplots(len(pairs), 2, squeeze=False)
        for row, (label, grids) in zip(axes, pairs.items(), strict=True):
            for ax, name, grid in zip(row, ("real (test split)", "generated"), grids, strict=True):
                ax.imshow(grid, cmap="gray", vmin=0, vmax=255)
                ax.set_title(f"{label}, {name}", fontsize=10)
                ax.axis("off")
        return as_png(figure)


def distance_boxes(distances: pd.DataFrame) -> bytes:
    """Box plot of the distances: same class blue, different classes red, floors grey.

    Args:
        distances: columns pair and distance.
    """
    table = distances.assign(kind=distances["pair"].map(KINDS).map(KIND_NAMES))
    palette = {KIND_NAMES[kind]: colour for kind, colour in COLOURS.items()}
    with mpl.rc_context(STYLE):
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
    """How near images are to train images, as cumulative shares, by class and space.

    A curve ends at the share of the images that are within reach of a train image.

    Args:
        table: columns class, space, set, ratio and within_reach; the sets train, held_out and
            generated, and disturbed train images under any other names, which are shown as one.
    """
    classes, spaces = (table[column].unique() for column in ("class", "space"))
    with mpl.rc_context(STYLE):
        size = (4.6 * len(spaces), 2.9 * len(classes))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(classes), len(spaces), squeeze=False)
        for row, label in zip(axes, classes, strict=True):
            for ax, space in zip(row, spaces, strict=True):
                part = table[(table["class"] == label) & (table["space"] == space)]
                sets = part["set"].where(part["set"].isin(NEAREST_SETS), "disturbed")
                for name, (title, colour, style) in NEAREST_SETS.items():
                    ratios = np.sort(part.loc[(sets == name) & part["within_reach"], "ratio"])
                    shares = np.arange(1, len(ratios) + 1) / max((sets == name).sum(), 1)
                    ax.step(ratios, shares, style, where="post", label=title, color=colour)
                ax.set(title=f"{label}, {space}", xlim=(0, 1.02), ylim=(0, 1.02))
        for ax in axes[-1]:
            ax.set(xlabel="nearest train image / nearest of another patient")
        for row in axes:
            row[0].set(ylabel="share of the images")
        axes[0][0].legend(frameon=False, loc="center", fontsize=8)
        return as_png(figure)


def closest_pairs(grids: Mapping[str, NDArray[np.uint8]]) -> bytes:
    """The images most like a train image, with that one below, of each class.

    Args:
        grids: by class, four rows of images as uint8 (h, w): generated, their nearest train
            images, held-out real ones, and theirs.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.3 * len(grids)), layout="constrained")
        axes = figure.subplots(len(grids), 1, squeeze=False)[:, 0]
        for ax, (label, grid) in zip(axes, grids.items(), strict=True):
            ax.imshow(grid, cmap="gray", vmin=0, vmax=255)
            ax.grid(visible=False)
            ax.set_title(f"{label}, the closest first", fontsize=10)
            places = (np.arange(len(PAIR_ROWS)) + 0.5) * grid.shape[0] / len(PAIR_ROWS)
            ax.set_yticks(places, PAIR_ROWS, fontsize=8)
            ax.set_xticks([])
        return as_png(figure)


def classifier_scores(scores: pd.DataFrame) -> bytes:
    """The area under the ROC curve of each arm against the size of the real set.

    Args:
        scores: columns network, arm, fraction, metric, value, low and high.
    """
    table = scores[scores["metric"] == "roc_auc"]
    networks = table["network"].unique()
    with mpl.rc_context(STYLE):
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
                reach = [values["value"] - values["low"], values["high"] - values["value"]]
                places = np.arange(len(values)) + shift
                ax.errorbar(
                    places, values["value"], reach, color=colours[number], marker="o", label=arm
                )
            ax.set_xticks(range(len(fractions)), [f"{fraction:.0%}" for fraction in fractions])
            ax.set(title=network, xlabel="real images")
        axes[0].set(ylabel="area under the ROC curve")
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, frameon=False, loc="outside lower center", ncols=len(arms))
        return as_png(figure)


def as_png(figure: Figure, bbox: str | None = None) -> bytes:
    """Render a figure; the file says nothing of when or with what it was made."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, bbox_inches=bbox)
    return buffer.getvalue()
