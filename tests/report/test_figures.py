import io
import os
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib.figure import Figure
from PIL import Image

from src.data.grids import png, tile
from src.metrics.protocol import KINDS
from src.report.figures import (
    COLOURS,
    classifier_scores,
    closest_pairs,
    distance_boxes,
    loss_curves,
    nearest_ratios,
    real_beside_generated,
    sample_evolution,
    scarcity_gains,
)
from tests.conftest import ROOT


@pytest.fixture
def distances() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"iteration": i, "pair": pair, "distance": rng.uniform(1, 2)}
        for i in range(5)
        for pair in KINDS
    ]
    return pd.DataFrame(rows)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).reshape(-1, 3)


def test_a_grid_shows_every_image_in_order() -> None:
    images = np.stack([np.full((2, 3), value, dtype=np.uint8) for value in (10, 20, 30, 40, 50)])
    sheet = tile(images, columns=3)
    assert sheet.shape == (2 * 3 - 1, 3 * 4 - 1)
    assert [int(v) for v in sheet[0, ::4]] == [10, 20, 30]
    assert [int(v) for v in sheet[3, ::4]] == [40, 50, 0]
    assert not sheet[2].any()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(sheet)))), sheet)


def test_same_class_boxes_are_blue_different_ones_red_and_floors_grey(
    distances: pd.DataFrame,
) -> None:
    found = pixels(distance_boxes(distances)).astype(int)
    counts = {}
    for kind, name in COLOURS.items():
        colour = np.array(colors.to_rgb(name)) * 255
        # seaborn shows box colours a little less saturated
        counts[kind] = int((np.abs(found - colour).max(axis=1) < 25).sum())
    assert min(counts.values()) > 500
    assert counts["different"] > counts["same"]


def test_every_figure_is_a_picture_and_comes_out_the_same_again(distances: pd.DataFrame) -> None:
    history = pd.DataFrame({"epoch": [1, 2], "g": [1, 2], "d1": [0.5, 0.4], "d2": [0.6, 0.3]})
    grid = np.zeros((20, 30), dtype=np.uint8)
    ratios = pd.DataFrame(
        [
            {"class": "NORMAL", "space": "pixels", "set": name, "ratio": i / 10}
            | {"within_reach": i < 6}
            for name in ("train", "held_out", "generated", "shifted", "mirrored")
            for i in range(10)
        ]
    )
    arms = pd.DataFrame(
        [
            {"network": "n", "arm": arm, "fraction": fraction, "metric": "roc_auc"}
            | {"value": 0.8, "low": 0.7, "high": 0.9}
            for arm, fraction in (("real", 0.2), ("real", 1.0), ("generated", 0.0))
        ]
    )
    gains = [
        {"network": network, "arm": arm, "patients": patients, "difference": 0.01}
        | {"low": -0.01, "high": 0.03, "is_control": arm == "unused"}
        for network in ("n", "m")
        for arm in ("both", "unused")
        for patients in (60.0, 240.0)
    ]
    calls = [
        lambda: scarcity_gains(gains),
        lambda: nearest_ratios(ratios),
        lambda: closest_pairs({"NORMAL": grid}),
        lambda: classifier_scores(arms),
        lambda: distance_boxes(distances),
        lambda: loss_curves({"NORMAL": history, "PNEUMONIA": history[:1]}),
        lambda: sample_evolution({"NORMAL": {1: grid, 5: grid}, "PNEUMONIA": {1: grid}}),
        lambda: real_beside_generated({"NORMAL": (grid, grid)}),
    ]
    for call in calls:
        assert call() == call()
        assert pixels(call()).std() > 0


def test_a_name_is_no_formula() -> None:
    r"""The control: Matplotlib refuses this one as a formula, since \frac needs arguments."""
    history = pd.DataFrame({"epoch": [1, 2], "g": [1.0, 2], "d1": [1.0, 1], "d2": [2.0, 1]})
    name = r"$\frac$"
    assert loss_curves({name: history}) != loss_curves({"frac": history})
    figure = Figure()
    figure.subplots().set_title(name)
    with pytest.raises(ValueError, match="frac"):
        figure.savefig(io.BytesIO())


def test_a_users_settings_of_matplotlib_change_no_figure() -> None:
    history = pd.DataFrame({"epoch": [1, 2], "g": [1.0, 2], "d1": [1.0, 1], "d2": [2.0, 1]})
    expected = loss_curves({"NORMAL": history})
    with mpl.rc_context({"figure.dpi": 40, "text.usetex": True, "savefig.bbox": "tight"}):
        assert loss_curves({"NORMAL": history}) == expected


@pytest.mark.parametrize("is_command", [True, False])
def test_a_command_draws_whatever_backend_a_notebook_hands_on(is_command: bool) -> None:
    """The control: the same backend in a program that only imports the library."""
    code = f"import sys; sys.argv[0] = {'-m' if is_command else 'x'!r}; import src.report.figures"
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode == 0) == is_command, done.stderr
