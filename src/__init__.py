"""The library, a check that this Python can run it, and how its commands begin.

This file keeps to syntax that old interpreters read, so that they get its message too.
"""

import os
import signal
import sys
from importlib.util import find_spec

_NEEDED = (
    "torch",
    "pydantic",
    "pandas",
    "PIL",
    "scipy",
    "seaborn",
    "pooch",
    "jinja2",
    "markdown_it",
    "ruamel",
)

_problem = ""
if sys.version_info < (3, 11):  # noqa: UP036
    _problem = "is version %d.%d, and 3.11 or newer is needed" % sys.version_info[:2]  # noqa: UP031
elif sys.getfilesystemencoding().lower() != "utf-8":
    sys.exit(
        "error: file names are taken for " + sys.getfilesystemencoding() + " here; set PYTHONUTF8=1"
    )
else:
    _missing = [name for name in _NEEDED if find_spec(name) is None]
    if _missing:
        _problem = "lacks " + ", ".join(_missing)
if _problem:
    sys.exit(
        "error: this Python (%s) %s; run `make setup` once, then `source .venv/bin/activate`"  # noqa: UP031
        % (sys.executable, _problem)
    )

# A command, `python -m ...`, imports for seconds, in which Ctrl-C shall not show where it is;
# `report_errors` tells of it then. Whoever imports the library keeps what they have.
if sys.argv[:1] == ["-m"]:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Figures go into files. A notebook hands on a backend that may not be installed here.
    os.environ["MPLBACKEND"] = "agg"
