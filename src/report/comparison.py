"""Table of all DVC experiments, on the terminal and on a page.

The table is no stage's output, because it changes with experiments that no stage depends on.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ..common.errors import UserError
from ..common.files import write_file
from ..common.git import foreign_owner
from ..common.logging import logger
from ..common.paths import HOME, PROJECT
from ..config.renames import with_new_names
from .experiments import REVISION_LETTERS, Experiment, compare, render_experiments

MAX_CELL_LETTERS = 24  # in the terminal; whole checksums would leave no room for scores
STAGES = ("fid", "privacy", "utility")  # names of their files of metrics


def known_experiments(shown: Iterable[Mapping[str, Any]]) -> list[Experiment]:
    """List the workspace and the commits that DVC shows, each before its own experiments.

    Args:
        shown: the output of `dvc exp show --json`.
    """
    experiments = []
    for commit in shown:
        experiments.append(_experiment(commit["name"] or commit["rev"][:REVISION_LETTERS], commit))
        for entry in commit["experiments"] or []:
            last = (entry["revs"] or [None])[0]
            if last is not None:
                name = entry["name"] or last["rev"][:REVISION_LETTERS]
                experiments.append(_experiment(name, last))
    return [experiment for experiment in experiments if experiment is not None]


def _experiment(name: str, state: Mapping[str, Any]) -> Experiment | None:
    """Return one experiment, or None if it has not run."""
    data = state["data"]
    if not data:
        return None
    parameters = (data["params"].get("params.yaml") or {}).get("data") or {}
    parameters = with_new_names(parameters, "")  # old commits have old names
    metrics = {
        stage: file["data"]
        for stage in STAGES
        if (file := data["metrics"].get(f"reports/metrics/{stage}.json")) and "data" in file
    }
    return Experiment(name, state["rev"], dict(_flat(parameters)), metrics)


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield every value of nested dicts with its dotted key."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def with_experiments(references: Iterable[str]) -> list[str]:
    """Return the commits that experiments started from, without repetition.

    Args:
        references: git's references; DVC names one for each experiment after that commit.
    """
    matches = (re.fullmatch(r"refs/exps/(\w{2})/(\w{38})/.+", name) for name in references)
    return list(dict.fromkeys(match[1] + match[2] for match in matches if match))


def write_comparison() -> None:
    """Print the table of experiments and write its page.

    Raises:
        UserError: if git or DVC cannot list the experiments.
    """
    newest_first = ["--sort=-creatordate", "--format=%(refname)", "refs/exps"]
    references = _output("git for-each-ref", ["git", "for-each-ref", *newest_first]).splitlines()
    # Not --all-commits, because DVC takes half a second for each commit.
    commits = [f"--rev={commit}" for commit in ("HEAD", *with_experiments(references))]
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", *commits]
    table = compare(known_experiments(json.loads(_output("dvc exp show", command))))
    print(table.to_string(index=False, max_colwidth=MAX_CELL_LETTERS))
    page = PROJECT / "reports" / "experiments.html"
    write_file(page, render_experiments(table))
    logger.info(f"the comparison is {page}")


def _output(name: str, command: list[str]) -> str:
    """Run a command and return its output; errors begin with ``name``."""
    try:
        completed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"{name}: {command[0]} is not installed") from None
    if completed.returncode:
        reason = foreign_owner(HOME, completed.stderr) or completed.stderr.strip()
        raise UserError(f"{name}: {reason or 'it failed without a word'}")
    return completed.stdout
