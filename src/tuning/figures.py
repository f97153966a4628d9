"""Figures of a study as PNG bytes: Optuna's own plots, and the front of excess against compute."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from matplotlib import pyplot as plt
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial
from optuna.visualization import matplotlib as plots

from ..report.figures import as_png, drawing_style
from .result import SearchResult

MIN_TRIALS = 4  # with a score, below which the plots show nothing
MAX_PARAMETERS = 8  # axes in the plot of parallel coordinates
# Caption of each figure by its name.
TITLES = {
    "history": "Excess of each trial in order, and the lowest so far.",
    "importances": "How much of the difference between good and other trials each parameter "
    "explains (PED-ANOVA; Watanabe et al., 2023).",
    "parallel": "The most important parameters of every trial; the best trials are darkest.",
    "front": "Excess against compute; the front in red.",
}


def study_figures(result: SearchResult) -> Mapping[str, bytes]:
    """Draw the figures of a search's result.

    Returns:
        PNG files by their name in ``TITLES``; none if too few trials have a score.
    """
    if len(result.ledger.complete) < MIN_TRIALS:
        return {}
    study, is_pareto = _counted_study(result), result.search.is_pareto
    target = (lambda trial: trial.values[0]) if is_pareto else None
    name = "excess"
    figures: dict[str, Callable[[], Any]] = {
        "history": lambda: plots.plot_optimization_history(study, target=target, target_name=name),
        "importances": lambda: plots.plot_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), target=target, target_name=name
        ),
        "parallel": lambda: plots.plot_parallel_coordinate(
            study, params=_most_important(study, target), target=target, target_name=name
        ),
    }
    if is_pareto:
        figures = {
            "front": lambda: plots.plot_pareto_front(
                study,
                targets=lambda trial: (trial.values[1], trial.values[0]),
                target_names=["MFLOP per image", "excess"],
            )
        } | figures
    return {name: _draw_png(draw) for name, draw in figures.items()}


def _counted_study(result: SearchResult) -> optuna.Study:
    """Copy the trials that count into a study of their own, in memory."""
    study = optuna.create_study(directions=result.study.directions)
    study.add_trials(result.ledger.trials)
    return study


def _most_important(
    study: optuna.Study, target: Callable[[FrozenTrial], float] | None
) -> list[str]:
    """Return the names of the most important parameters."""
    evaluator = PedAnovaImportanceEvaluator()
    importances = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
    return list(importances)[:MAX_PARAMETERS]


def _draw_png(draw: Callable[[], Any]) -> bytes:
    """Return what Optuna draws on pyplot's current figure, and close the figure."""
    try:
        with drawing_style(), warnings.catch_warnings():
            # Optuna warns that importances are for low values, as intended here.
            warnings.filterwarnings("ignore", "PedAnova", UserWarning)
            draw()
            figure = plt.gcf()
            figure.set_size_inches(12, 5)
            return as_png(figure, "tight")
    finally:
        plt.close("all")
