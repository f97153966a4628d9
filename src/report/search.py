"""The HTML page of a search's result."""

from collections.abc import Mapping

import pandas as pd

from ..tuning.figures import TITLES
from ..tuning.result import SearchResult
from ..tuning.storage import original_number
from .templates import as_data_url, html_templates


def render_search(result: SearchResult, figures: Mapping[str, bytes]) -> str:
    """Render the page as HTML that needs no other file.

    Args:
        result: the search's result.
        figures: PNG files by their name in ``tuning.figures.TITLES``.
    """
    trial = result.chosen_trial() if result.repeats else None
    front = result.front() if result.search.is_pareto else []
    table = result.table()
    return (
        html_templates()
        .get_template("search.html")
        .render(
            result=result,
            class_names=result.search.settings.data.names.by_class(),
            tune=result.search.settings.tune,
            counts=result.counts(),
            chosen=None if trial is None else original_number(trial),
            changes={} if trial is None else result.changes(trial),
            front=[(original_number(trial), *trial.values) for trial in front],
            figures={name: as_data_url(content) for name, content in figures.items()},
            titles=TITLES,
            columns=list(table.columns),
            rows=[[_as_cell(value) for value in row] for row in table.itertuples(index=False)],
        )
    )


def _as_cell(value: object) -> str:
    """Return a value as the text of a table's cell, numbers with four significant digits."""
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return str(value)
