"""Messages to the user: lines on stdout, warnings on stderr."""

import sys

from tqdm import tqdm


def say(message: str) -> None:
    """Print one line at once, above a progress bar if there is one."""
    tqdm.write(message, file=sys.stdout)
    sys.stdout.flush()


def warn(message: str) -> None:
    """Print a warning on stderr at once, above a progress bar if there is one."""
    tqdm.write(f"warning: {message}", file=sys.stderr)
    sys.stderr.flush()
