"""All DVC experiments, as DVC shows them, in one table on the terminal and on a page.

No stage makes it, because its result changes with experiments that no stage depends on.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ..common.errors import UserError
from ..common.files import write_file
from ..common.logging import logger
from ..common.paths import PROJECT
from ..config.renames import with_new_names
from .experiments import REVISION_LETTERS, Experiment, compare, render_experiments

WIDEST = 24  # letters of a cell in the terminal, where checksums would push scores away
STAGES = ("fid", "privacy", "utility")  # by the names of their metrics


def known_experiments(shown: Iterable[Mapping[str, Any]]) -> list[Experiment]:
    """Return the workspace and the commits that DVC shows, each before its own experiments.

    Args:
        shown: what `dvc exp show --json` prints.
    """
    found = []
    for commit in shown:
        found.append(_experiment(commit["name"] or commit["rev"][:REVISION_LETTERS], commit))
        for entry in commit["experiments"] or []:
            last = (entry["revs"] or [None])[0]
            if last is not None:
                found.append(_experiment(entry["name"] or last["rev"][:REVISION_LETTERS], last))
    return [experiment for experiment in found if experiment is not None]


def _experiment(name: str, state: Mapping[str, Any]) -> Experiment | None:
    """Read one experiment; return None if it has not run."""
    data = state["data"]
    if not data:
        return None
    parameters = (data["params"].get("params.yaml") or {}).get("data") or {}
    parameters = with_new_names(parameters, "")  # of commits from before as well
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


def with_experiments(references: Iterable[str]) -> list[str]:
    """Return the commits that experiments began from, without repetition.

    Args:
        references: git's, of which DVC keeps one for each experiment, named after that commit.
    """
    matches = (re.fullmatch(r"refs/exps/(\w{2})/(\w{38})/.+", name) for name in references)
    return list(dict.fromkeys(match[1] + match[2] for match in matches if match))


def write_comparison() -> None:
    """Print the table and write the page.

    Raises:
        UserError: if git or DVC cannot tell of the experiments.
    """
    newest_first = ["--sort=-creatordate", "--format=%(refname)", "refs/exps"]
    references = _output("git for-each-ref", ["git", "for-each-ref", *newest_first]).splitlines()
    # Not --all-commits, since DVC takes half a second for each of a long history.
    commits = [f"--rev={commit}" for commit in ("HEAD", *with_experiments(references))]
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", *commits]
    table = compare(known_experiments(json.loads(_output("dvc exp show", command))))
    print(table.to_string(index=False, max_colwidth=WIDEST))
    page = PROJECT / "reports" / "experiments.html"
    write_file(page, render_experiments(table))
    logger.info(f"the comparison is {page}")


def _output(name: str, command: list[str]) -> str:
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"{name}: {command[0]} is not installed") from None
    if done.returncode:
        raise UserError(f"{name}: {done.stderr.strip() or 'it failed without a word'}")
    return done.stdout
