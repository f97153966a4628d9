"""The stages' entry points, and commands around them."""

import os
import signal

import src  # noqa: F401, refuses a Python that cannot run this
from src.process import end_with_parent

# Here, since a stage's own imports take seconds in which its dvc may be killed.
if "DVC_STAGE" in os.environ:
    end_with_parent()
    # Nor shall Ctrl-C in these seconds show where they are; `report_errors` tells of it then.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
