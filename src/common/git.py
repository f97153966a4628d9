"""What git refuses to do in a repository of another user."""

import re
import shlex
from pathlib import Path

from .paths import git_root

# What git, and what the library of it that DVC uses, say of a folder of another owner.
FOREIGN = re.compile("dubious ownership|not owned by current user")


def foreign_owner(folder: Path, error: str) -> str | None:
    """Return why git touches nothing of a folder and what to do, if ``error`` says so, else None.

    Args:
        folder: in the repository.
        error: what git or DVC wrote, in English.
    """
    if not FOREIGN.search(error):
        return None
    top = git_root(folder.resolve()) or folder
    return (
        f"{top} is another user's, so git does not touch it: `git config --global --add "
        f"safe.directory {shlex.quote(str(top))}` if you trust it"
    )
