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

from src.evaluation.protocol import KINDS

# Blue and red as in the thesis; floors in grey. Seaborn's colour-blind palette.
COLOURS = {"same": "#0173b2", "different": "#d1495b", "floor": "#949494"}
KIND_NAMES = {"same": "same class", "different": "different classes", "floor": "floor"}
LOSSES = {
    "g": ("generator", "#029e73"),
    "d1": ("discriminator on generated", "#de8f05"),
    "d2": ("discriminator on real", "#0173b2"),
}
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
        return _as_png(figure)


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
        return _as_png(figure)


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
        return _as_png(figure)


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
        return _as_png(figure)


def _as_png(figure: Figure) -> bytes:
    """Render a figure; the file says nothing of when or with what it was made."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
