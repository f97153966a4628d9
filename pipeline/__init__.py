"""The stages' entry points, and commands around them."""

import os

import src  # noqa: F401, refuses a Python that cannot run this
from src.common.processes import end_with_parent

# Here, since a stage's own imports take seconds in which its dvc may be killed.
if "DVC_STAGE" in os.environ:
    end_with_parent()
