"""The page of a search."""

from collections.abc import Mapping

import pandas as pd
from optuna.trial import TrialState

from ..tuning.figures import TITLES
from ..tuning.result import Found
from ..tuning.storage import original
from .templates import as_data_url, html_templates


def render_search(found: Found, figures: Mapping[str, bytes]) -> str:
    """The page as one HTML text; ``figures`` are PNG files by their name in ``TITLES``."""
    trial = found.chosen() if found.repeated else None
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    table = found.table()
    return (
        html_templates()
        .get_template("search.html")
        .render(
            found=found,
            tune=found.search.settings.tune,
            counts={state.name.lower(): found.account.count(state) for state in states},
            chosen=None if trial is None else original(trial),
            changes={} if trial is None else found.changes(trial),
            front=[(original(t), *t.values) for t in found.front()] if found.search.pareto else [],
            figures={name: as_data_url(content) for name, content in figures.items()},
            titles=TITLES,
            columns=list(table.columns),
            rows=[[_shown(value) for value in row] for row in table.itertuples(index=False)],
        )
    )


def _shown(value: object) -> str:
    """A cell of the table."""
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return str(value)
