"""Say what is missing on this machine, and what to do: `make doctor`, or `python -m src.doctor`."""

import argparse
import sys
from collections.abc import Sequence

from .common.errors import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, of which there are none, and check the machine."""
    argparse.ArgumentParser(prog="python -m src.doctor", description=__doc__).parse_args(argv)

    def work() -> None:
        from .report.machine import examine  # it imports for seconds, which `--help` need not

        examine()

    return report_errors(work)


if __name__ == "__main__":
    sys.exit(main())
