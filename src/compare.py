"""Compare all DVC experiments: `make compare` prints a table, writes reports/experiments.html."""

import argparse
import sys
from collections.abc import Sequence

from .common.errors import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, of which there are none, and compare."""
    argparse.ArgumentParser(prog="python -m src.compare", description=__doc__).parse_args(argv)

    def work() -> None:
        from .report.comparison import write_comparison  # pandas, which `--help` does not need

        write_comparison()

    return report_errors(work)


if __name__ == "__main__":
    sys.exit(main())
