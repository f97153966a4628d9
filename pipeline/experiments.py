"""Compare all DVC experiments: `make compare` prints a table and writes reports/experiments.html.

It is no stage, because its result changes with experiments that no stage depends on.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from src.errors import UserError, report_errors
from src.files import write_atomic
from src.progress import say
from src.report.experiments import SHORT, Experiment, compare, render_experiments
from src.workspace import PROJECT

STAGES = ("fid", "privacy", "utility")  # by the names of their metrics


def known_experiments(shown: Iterable[Mapping[str, Any]]) -> list[Experiment]:
    """The workspace, the current commit, and commits with experiments, each before its own.

    Args:
        shown: what `dvc exp show --json` prints.
    """
    found = []
    for number, commit in enumerate(shown):
        own = commit["experiments"] or []
        if number > 1 and not own:  # a commit that nobody started from
            continue
        found.append(_experiment(commit["name"] or commit["rev"][:SHORT], commit))
        for entry in own:
            last = (entry["revs"] or [None])[0]
            if last is not None:
                found.append(_experiment(entry["name"] or last["rev"][:SHORT], last))
    return [experiment for experiment in found if experiment is not None]


def _experiment(name: str, state: Mapping[str, Any]) -> Experiment | None:
    """One experiment, or None if it has not run."""
    data = state["data"]
    if not data:
        return None
    parameters = (data["params"].get("params.yaml") or {}).get("data") or {}
    metrics = {
        stage: found["data"]
        for stage in STAGES
        if (found := data["metrics"].get(f"reports/metrics/{stage}.json")) and "data" in found
    }
    return Experiment(name, state["rev"], dict(_flat(parameters)), metrics)


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def write_comparison() -> None:
    """Print the table and write the page.

    Raises:
        UserError: if DVC cannot tell of the experiments.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "show", "--all-commits", "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(f"dvc exp show: {done.stderr.strip() or 'it failed without a word'}")
    table = compare(known_experiments(json.loads(done.stdout)))
    print(table.to_string(index=False))
    page = PROJECT / "reports" / "experiments.html"
    write_atomic(page, render_experiments(table))
    say(f"the comparison is {page}")


if __name__ == "__main__":
    sys.exit(report_errors(write_comparison))
