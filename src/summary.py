"""Prints the verdict table, where the report is, and how to open the MLflow UI."""

import sys

from .common.errors import report_errors
from .common.outputs import read_metrics, read_table
from .common.paths import HOME, PROJECT
from .metrics.hypothesis import Verdict
from .metrics.kid_prdc import METRIC_NAMES, Metric
from .report.findings import differing_splits
from .tracking.address import has_server, runs_link


def summarize() -> None:
    """Print what the last run found."""
    table = read_table(PROJECT / "reports" / "fid" / "describe.csv", index="pair")
    fid = read_metrics("fid")
    columns = ["kind", "n", "mean", "std", "min", "50%", "max", "relative"]
    extractor = fid["extractor"]
    source = read_metrics("fetch")["source"]
    print()
    print(f"Fréchet distances, {extractor['dims']} features of {extractor['name']}, data: {source}")
    print(table[columns].to_string(float_format=lambda value: f"{value:.4g}"))
    print()
    print(Verdict(**fid["verdict"]).sentence())
    print()
    print("whole test sets:")
    for label, scores in fid["scores"].items():
        shown: tuple[Metric, ...] = ("frechet", "precision", "recall")
        told = [_told(METRIC_NAMES[name], scores[name]) for name in shown if name in scores]
        print(f"  {label:<10} {'; '.join(told)}")
    for sentence in differing_splits(fid["scores"], extractor["name"]):
        print(f"  {sentence}")
    print()
    for label, found in read_metrics("privacy").items():
        print(f"copies, {label}: {found['sentence']}")
    print()
    print(f"use for a classifier: {read_metrics('utility')['sentence']}")
    print()
    print(f"report:    {PROJECT / 'reports' / 'index.html'}")
    link = runs_link(HOME, {})
    first = "" if has_server(HOME) else "make ui, then "
    print(f"MLflow UI: {first}{link}")


def _told(name: str, score: dict[str, float]) -> str:
    """A score with its interval and floor, as far as there are any."""
    told = f"{name} {score['value']:.3g}"
    if "low" in score:
        told += f" ({score['low']:.3g} to {score['high']:.3g})"
    if "floor" in score:
        told += f" [{score['floor_n']} images: {score['score_at_floor_n']:.3g}, floor "
        told += f"{score['floor']:.3g}]"
    return told


if __name__ == "__main__":
    sys.exit(report_errors(summarize))
