"""Open MLflow's UI on this machine: `make ui`, http://127.0.0.1:5000."""

import argparse
import os
import sys
from collections.abc import Sequence

from .common.errors import UserError, report_errors
from .common.paths import HOME
from .tracking.address import has_server, sqlite_file, tracking_uri


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and become MLflow's UI; return the exit status if that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m src.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5000, help="default: 5000")
    port: int = parser.parse_args(argv).port
    return report_errors(lambda: open_ui(port))


def open_ui(port: int) -> None:
    """Replace this process by MLflow's UI of the project's store.

    Raises:
        UserError: if there is no store, or it cannot be used.
    """
    uri = tracking_uri(HOME)
    if has_server(HOME):
        print("MLFLOW_TRACKING_URI names a server, which shows its UI itself: open its address")
        return
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise UserError("no run was logged here yet: `make demo` logs some")
    # Only here, since MLflow imports for seconds, and `--help` does not need it.
    from .tracking.store import connect

    with connect(HOME):  # corrects a store that was moved
        pass
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = ["-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.execve(sys.executable, [sys.executable, *command], environment)


if __name__ == "__main__":
    sys.exit(main())
