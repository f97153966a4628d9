"""The two classes of networks of an architecture, by the value of the parameter ``architecture``.

A new architecture is a module of this package whose classes follow those of ``networks.py``: the
same arguments, attributes, shapes and ``count_flops``, and an ``Architecture`` of both. It has one
entry in ``config.registry.ARCHITECTURES``.
"""

from typing import TYPE_CHECKING, NamedTuple

from ..config.registry import ARCHITECTURES, load

if TYPE_CHECKING:  # the names are read where torch is not needed
    from .networks import Discriminator, Generator


class Architecture(NamedTuple):
    """The two classes of networks of one architecture."""

    generator: "type[Generator]"
    discriminator: "type[Discriminator]"


def load_architecture(name: str) -> Architecture:
    """Import the classes of the architecture of that name.

    Raises:
        KeyError: if ``name`` is not in ``ARCHITECTURES``.
    """
    return Architecture(*load(ARCHITECTURES[name]))
