"""Deliver to MLflow what was logged while its store was away: `make sync`."""

import argparse
import sys
from collections.abc import Sequence

from .common.errors import UserError, report_errors
from .common.paths import HOME


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, deliver, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m src.sync", description=__doc__)
    parser.parse_args(argv)
    return report_errors(deliver)


def deliver() -> None:
    """Deliver everything that waits for the present store, and print what waits for others.

    Raises:
        UserError: if the store cannot be reached, or something is not delivered.
    """
    # Only here, since MLflow imports for seconds, and `--help` does not need it.
    from .tracking.delivery import sync

    result = sync(HOME)
    for store in result.other_stores:
        print(f"more waits for {store}: set MLFLOW_TRACKING_URI to it, then `make sync`")
    if result.undelivered:
        names = ", ".join(result.undelivered)
        raise UserError(f"not delivered: {names}; the warnings above say why")
    if not result.delivered:
        print("nothing waits for this store")


if __name__ == "__main__":
    sys.exit(main())
