"""Results of the last run as lines of text.

The command must start fast, so this reads the stages' files without pandas and calls no server. Of
the parameters it uses the classes' names.
"""

import csv
from collections.abc import Mapping, Sequence

from ..common.outputs import read_metrics, unusable_file_error
from ..common.paths import HOME, PARAMS, PROJECT
from ..config.registry import METRICS
from ..metrics.hypothesis import HypothesisResult
from ..tracking.address import has_server, runs_link
from .findings import caveats
from .wording import EXPERIMENTS, with_class_names

COLUMNS = ("pair", "kind", "n", "mean", "std", "min", "50%", "max", "relative")
EXACT = ("pair", "kind", "n")  # columns that are printed as they are; others get four digits
SHOWN = ("frechet", "precision", "recall")


def summarize() -> None:
    """Print the distances, the results of all tests, and the addresses of the report and the runs.

    Raises:
        UserError: if a stage's file is missing or damaged, or a parameter is refused.
    """
    from ..config.settings import (
        load_settings,
    )  # only here, since pydantic takes a tenth of a second

    names = load_settings(PARAMS).data.names.by_class()
    fid = read_metrics("fid")
    extractor, source = fid["extractor"], read_metrics("fetch")["source"]
    print()
    print(f"Fréchet distances, {extractor['dims']} features of {extractor['name']}, data: {source}")
    print("\n".join(_align(_read_distances())))
    print()
    print(with_class_names(HypothesisResult.from_record(fid["verdict"]).sentence(), names))
    print()
    print("whole test sets:")
    width = max(map(len, names.values())) + 1
    for label, scores in fid["scores"].items():
        texts = [_describe(METRICS[name].words, scores[name]) for name in SHOWN if name in scores]
        print(f"  {names[label]:<{width}} {'; '.join(texts)}")
    for sentence in caveats(fid["scores"], extractor["name"]):
        print(f"  {with_class_names(sentence, names)}")
    print()
    for label, result in read_metrics("privacy").items():
        print(f"copies, {names[label]}: {result['sentence']}")
        if "membership" in result:
            print(f"membership, {names[label]}: {result['membership']['sentence']}")
    print()
    utility = read_metrics("utility")
    print(f"use for a classifier: {utility['sentence']}")
    for name, title in EXPERIMENTS.items():
        if found := utility.get(name):
            print(with_class_names(f"{title}: {found['sentence']}", names))
    print()
    print(f"report:    {PROJECT / 'reports' / 'index.html'}")
    first = "" if has_server(HOME) else "make ui, then "
    print(f"MLflow UI: {first}{runs_link(HOME, {})}")


def _read_distances() -> list[Sequence[str]]:
    """Read the table of the distances: its head, and a row for each pair."""
    path = PROJECT / "reports" / "fid" / "describe.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [
                [row[name] if name in EXACT else f"{float(row[name]):.4g}" for name in COLUMNS]
                for row in csv.DictReader(stream)
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:  # TypeError: half a row
        raise unusable_file_error(path, error) from error
    return [COLUMNS, *rows]


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def _describe(name: str, score: Mapping[str, float]) -> str:
    """Format a score with its interval and floor, if there are any."""
    text = f"{name} {score['value']:.3g}"
    if "low" in score:
        text += f" ({score['low']:.3g} to {score['high']:.3g})"
    if "floor" in score:
        text += f" [{score['floor_n']} images: {score['score_at_floor_n']:.3g}, floor "
        text += f"{score['floor']:.3g}]"
    return text
