"""Prints the verdict table, where the report is, and how to open the MLflow UI."""

import os
import sys

from pipeline.stage import PROJECT, read_metrics, read_table, report_errors


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
    verdict = fid["verdict"]
    print()
    print(
        f"same class lower than different classes: {'yes' if verdict['holds'] else 'NO'} "
        f"(largest same {verdict['largest_same_mean']:.4g}, "
        f"smallest different {verdict['smallest_different_mean']:.4g}; "
        f"in {verdict['share']:.0%} of the draws)"
    )
    print(f"report:    {PROJECT / 'reports' / 'index.html'}")
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    print(f"MLflow UI: {uri if uri and uri.startswith('http') else 'make ui'}")


if __name__ == "__main__":
    sys.exit(report_errors(summarize))
