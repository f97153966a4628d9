"""Files of weights as PyTorch's tools save them, read back to a network's own names."""

from collections.abc import Collection, Mapping
from typing import Any

# Keys under which training scripts keep a network's weights, beside an optimizer and the like.
CONTAINERS = ("state_dict", "model_state_dict", "model", "weights")
# Names under which a wrapper holds the network: DataParallel, DistributedDataParallel and
# AveragedModel; torch.compile.
WRAPPERS = ("module", "_orig_mod")
MAX_DEPTH = 4  # containers within each other; a file may hold itself


def open_containers(content: object, key: str | None = None) -> object:
    """Return what lies in a file's containers, however many there are within each other.

    Args:
        content: the file's content.
        key: a name within what is wanted; None for the innermost content.

    Raises:
        ValueError: if a dict holds several containers, with their names.
    """
    for _ in range(MAX_DEPTH):
        if not isinstance(content, Mapping) or key in content:
            break
        held = [name for name in CONTAINERS if isinstance(content.get(name), Mapping)]
        if len(held) > 1:
            raise ValueError(f"it holds weights as {' and as '.join(held)}; keep one of them")
        if not held:
            break
        content = content[held[0]]
    return content


def find_weights(content: object, wanted: Collection[str]) -> dict[str, Any]:
    """Return the weights in a file's content, without the names that wrappers of a network add.

    Args:
        content: the file's content: the weights by name, alone or in containers.
        wanted: names of the network's own weights, which stay as they are.

    Raises:
        ValueError: if the content is none, or two names are the same without wrappers.
    """
    opened = open_containers(content)
    if not isinstance(opened, Mapping):
        raise ValueError(f"it holds a {type(opened).__name__}, and not weights by name")
    weights: dict[str, Any] = {}
    given: dict[str, str] = {}
    for name, value in opened.items():
        name = str(name)
        parts = [part for part in name.split(".") if part not in WRAPPERS]
        own = name if name in wanted else ".".join(parts)
        if own in weights:
            raise ValueError(f"{given[own]} and {name} are both {own}; keep one of them")
        weights[own], given[own] = value, name
    return weights
