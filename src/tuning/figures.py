"""The plots of a study, as PNG bytes: Optuna's own, and the front of distance against compute."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import optuna
from matplotlib import pyplot as plt
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial
from optuna.visualization import matplotlib as plots

from ..report.figures import STYLE, as_png
from .result import Found

FEWEST = 4  # trials with a score that a plot needs to say anything
MOST_AXES = 8
TITLES = {
    "history": "The trials in their order, and the best so far.",
    "importances": "How much of the difference between good and other trials each parameter "
    "explains (PED-ANOVA; Watanabe et al., 2023).",
    "parallel": "The most important parameters of every trial; the best trials are darkest.",
    "front": "Distance against compute; the front in red.",
}


def study_figures(found: Found) -> Mapping[str, bytes]:
    """The plots that a study has enough trials for, by their name in ``TITLES``."""
    study = _counted(found)
    if len(found.account.complete) < FEWEST:
        return {}
    drawn: dict[str, Callable[[], Any]] = {}
    if found.search.pareto:

        def compute(trial: FrozenTrial) -> tuple[float, float]:
            return trial.values[1], trial.values[0]

        drawn["front"] = lambda: plots.plot_pareto_front(
            study, targets=compute, target_names=["MFLOP an image", "excess"]
        )
    target = (lambda trial: trial.values[0]) if found.search.pareto else None
    name = "excess"
    drawn["history"] = lambda: plots.plot_optimization_history(
        study, target=target, target_name=name
    )
    drawn["importances"] = lambda: plots.plot_param_importances(
        study, evaluator=PedAnovaImportanceEvaluator(), target=target, target_name=name
    )
    drawn["parallel"] = lambda: plots.plot_parallel_coordinate(
        study, params=_most_important(study, target), target=target, target_name=name
    )
    return {name: _png(draw) for name, draw in drawn.items()}


def _counted(found: Found) -> optuna.Study:
    """A study of the trials that count alone."""
    study = optuna.create_study(directions=found.study.directions)
    study.add_trials(found.account.trials)
    return study


def _most_important(
    study: optuna.Study, target: Callable[[FrozenTrial], float] | None
) -> list[str]:
    """The parameters that a plot has room for."""
    evaluator = PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
    return list(found)[:MOST_AXES]


def _png(draw: Callable[[], Any]) -> bytes:
    """Let Optuna draw on a figure of pyplot's, which is closed again."""
    try:
        with mpl.rc_context(STYLE), warnings.catch_warnings():
            # That its importances are for low values, which is what is meant here.
            warnings.filterwarnings("ignore", "PedAnova", UserWarning)
            draw()
            figure = plt.gcf()
            figure.set_size_inches(12, 5)
            return as_png(figure, "tight")
    finally:
        plt.close("all")
