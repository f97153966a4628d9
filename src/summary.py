"""Print the verdicts of the last run again: `make summary`, or `python -m src.summary`."""

import argparse
import sys
from collections.abc import Sequence

from .common.errors import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, of which there are none, and print the summary."""
    argparse.ArgumentParser(prog="python -m src.summary", description=__doc__).parse_args(argv)

    def work() -> None:
        from .report.summary import summarize

        summarize()

    return report_errors(work)


if __name__ == "__main__":
    sys.exit(main())
