"""Merge conflicts that git left in files of the project, and the ways out."""

import re
import shlex
from collections.abc import Sequence

# The line with which each conflict begins, in every style of git's.
_MARKER = re.compile(r"^<{7}(\s|$)", re.MULTILINE)


def has_conflict(text: str) -> bool:
    """Return whether git left a merge conflict in a file's text."""
    return _MARKER.search(text) is not None


def describe_conflicts(names: Sequence[str]) -> str:
    """Describe conflicts in files, and the way out of each kind of file.

    The commands work in a merge, a rebase, a cherry-pick and a revert, and after `git stash pop`.
    In each of them git refuses `git checkout FILE`, and takes it with a side.

    Args:
        names: one or more, relative to the project's folder, in which the commands run.
    """
    made = [name for name in names if name == "dvc.lock" or name.startswith("reports/metrics/")]
    tracked = [name for name in names if name.endswith(".dvc")]
    written = [name for name in names if name not in (*made, *tracked)]
    ways = []
    if written:
        ways.append(f"{_list(written)}: keep what is right between <<<<<<< and >>>>>>>")
    if tracked:
        files = shlex.join(tracked)
        ways.append(
            f"{_list(tracked)}: `git checkout --ours {files}` or --theirs, then `dvc checkout`"
        )
    if made:
        files = shlex.join(made)
        ways.append(
            f"{_list(made)}: `git checkout --ours {files}` or --theirs (if no merge is under way "
            f"`rm {files}`), then `dvc repro`, which takes what it has from the cache"
        )
    return f"merge conflict in {'; '.join(ways)}; at last `git add {shlex.join(names)}`"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
