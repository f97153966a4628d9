"""The report of a search in reports/tune: a page, a table, figures and a summary."""

from ..common.files import write_file, write_json
from ..common.logging import logger
from ..common.paths import PROJECT
from ..report.search import render_search
from ..tracking.runs import Run
from .figures import TITLES, study_figures
from .result import SearchResult


def write_report(result: SearchResult, run: Run) -> None:
    """Write a search's report and log its files to the study's MLflow run.

    Raises:
        OSError: if a file cannot be written.
    """
    search = result.search
    folder = PROJECT / "reports" / "tune"
    stem = search.label + ("-pareto" if search.is_pareto else "")

    # Write the files.
    figures = study_figures(result)
    files: dict[str, bytes | str] = {
        f"{stem}.csv": result.table().to_csv(index=False, lineterminator="\n"),
        f"{stem}.html": render_search(result, figures),
        **{f"{stem}-{name}.png": content for name, content in figures.items()},
    }
    for name, content in files.items():
        write_file(folder / name, content)
    for name in TITLES.keys() - figures.keys():  # left by an earlier search with more figures
        (folder / f"{stem}-{name}.png").unlink(missing_ok=True)
    write_json(folder / f"{stem}.json", result.summary())

    # Log them, and what makes studies comparable in MLflow.
    for name in (*files, f"{stem}.json"):
        run.log_file(folder / name, "tune")
    if result.repeats:
        run.log_metrics({"excess": result.repeats[0].mean})
    run.set_tag("tune.result", result.verdict())
    logger.info(f"{search.label}: report written to {folder / stem}.html, .csv and .json")
