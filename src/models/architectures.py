"""Network architectures by the value of the parameter ``architecture``.

A new one is a module of this package with two classes, and one entry here. The classes follow
those of ``networks.py``: they are called ``Generator`` and ``Discriminator``, and have the same
arguments, attributes, input and output shapes, and ``count_flops``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the table is read where torch is not needed
    from .networks import Discriminator, Generator

# The module of this package that holds the two classes.
ARCHITECTURES = {
    "dcgan": "networks",  # Radford et al., 2016, and the thesis
}


class Architecture(NamedTuple):
    """The two classes of networks of one architecture."""

    generator: "type[Generator]"
    discriminator: "type[Discriminator]"


def load_architecture(name: str) -> Architecture:
    """Import the classes of the architecture of that name.

    Raises:
        KeyError: if ``name`` is not in ``ARCHITECTURES``.
    """
    module = import_module(f".{ARCHITECTURES[name]}", __package__)
    return Architecture(module.Generator, module.Discriminator)
