"""Deliver to MLflow what was logged while it was away: `make sync`."""

import sys

from .common.errors import UserError, report_errors
from .common.paths import HOME
from .tracking.delivery import sync


def deliver() -> None:
    """Deliver, and say what is left.

    Raises:
        UserError: if MLflow cannot be reached, or something is left.
    """
    found = sync(HOME)
    for store in found.elsewhere:
        print(f"more waits for {store}: set MLFLOW_TRACKING_URI to it, then `make sync`")
    if found.left:
        raise UserError(f"not delivered: {', '.join(found.left)}; the warnings above say why")
    if not found.delivered:
        print("nothing waits for this store")


if __name__ == "__main__":
    sys.exit(report_errors(deliver))
