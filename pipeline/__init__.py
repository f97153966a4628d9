"""The stages' entry points, and commands around them."""

import src  # noqa: F401, refuses a Python that cannot run this
