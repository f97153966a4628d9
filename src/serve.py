"""Serve a registered generator over HTTP: `make serve CLASS=normal`.

MLflow's scoring server draws images on request, behind limits on the size, duration and number of
requests.
"""

import argparse
import sys
from collections.abc import Sequence

from .common.errors import report_errors
from .common.paths import HOME
from .data.classes import CLASSES
from .tracking.registered_model import CANDIDATE, CHAMPION, model_uri


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, serve until interrupted, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m src.serve", description=__doc__)
    labels = [label.lower() for label in CLASSES]
    parser.add_argument("--class", dest="label", required=True, choices=labels)
    parser.add_argument("--alias", default=CANDIDATE, help=f"{CANDIDATE} or {CHAMPION}")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    parser.add_argument("--port", type=int, default=5001, help="default: 5001")
    arguments = parser.parse_args(argv)
    label, alias, host = str(arguments.label), str(arguments.alias), str(arguments.host)
    port = int(arguments.port)
    if not 0 < port < 1 << 16:
        parser.error(f"--port: it must be from 1 to 65535, not {port}")
    return report_errors(lambda: serve(label, alias, host, port))


def serve(label: str, alias: str, host: str, port: int) -> None:
    """Serve the version of a class's generator that an alias names, until interrupted.

    Raises:
        UserError: if there is no such version, or the port cannot be opened.
    """
    # Only here, since the server and MLflow import for seconds, and `--help` needs neither.
    from .tracking.serving import serve_model

    serve_model(HOME, model_uri(label, alias), host, port)


if __name__ == "__main__":
    sys.exit(main())
