"""The library, and a check that this Python can run it.

This file keeps to syntax that old interpreters read, so that they get its message too.
"""

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
