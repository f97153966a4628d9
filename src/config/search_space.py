"""Space of a search: the parameters of a class that may change, and the settings of a point.

A name is a parameter of ``train.<class>``, such as ``generator.latent_dim``, or one of ``DERIVED``.
The latter change several parameters at once, relative to the current configuration.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from .checks import check_training
from .renames import new_name
from .train import TrainSettings
from .tune import Choice, Choices, Range

Tree = dict[str, Any]
Values = Mapping[str, Any]  # by name
NETWORKS = ("generator", "discriminator")
UNSEARCHED = ("epochs", "samples", "seed")  # the budget ends a trial; a lucky seed is no choice
MULTIPLE = 8  # widths are multiples of it, which processors compute faster


def _scale(network: str) -> Callable[[Tree, float], None]:
    """Return a function that multiplies the widths of a network's layers by a factor."""

    def scale(tree: Tree, factor: float) -> None:
        part = tree[network]

        def scaled(channels: int) -> int:
            if factor == 1:
                return channels
            return max(round(channels * factor / MULTIPLE), 1) * MULTIPLE

        part["channels"] = [scaled(channels) for channels in part["channels"]]
        if "base_channels" in part:
            part["base_channels"] = scaled(part["base_channels"])

    return scale


def _deepen_generator(tree: Tree, layers: int) -> None:
    """Add layers at the small maps of the generator; a negative number removes them."""
    part = tree["generator"]
    for _ in range(layers):
        part["channels"].insert(0, part["base_channels"])
        part["kernels"].insert(0, part["kernels"][0])
        part["strides"].insert(0, 2)
    for _ in range(-layers):
        part["base_channels"] = part["channels"].pop(0)
        del part["kernels"][0], part["strides"][0]


def _deepen_discriminator(tree: Tree, layers: int) -> None:
    """Add layers at the discriminator's small maps, its last; a negative number removes them."""
    part = tree["discriminator"]
    for _ in range(layers):
        part["channels"].append(part["channels"][-1])
        part["kernels"].append(part["kernels"][-1])
        part["strides"].append(2)
    for _ in range(-layers):
        for name in ("channels", "kernels", "strides"):
            part[name].pop()


def _set_kernel(network: str) -> Callable[[Tree, int], None]:
    """Return a function that sets the kernels of all layers with a stride above 1."""

    def set_kernel(tree: Tree, kernel: int) -> None:
        part = tree[network]
        part["kernels"] = [
            kernel if stride > 1 else old
            for old, stride in zip(part["kernels"], part["strides"], strict=True)
        ]

    return set_kernel


def _set_beta1(tree: Tree, beta1: float) -> None:
    """Set beta1 of both optimizers."""
    for network in NETWORKS:
        tree["optimizer"][network]["beta1"] = beta1


# Functions that change several parameters at once, in the order in which they are applied.
DERIVED: Mapping[str, Callable[[Tree, Any], None]] = {
    "generator.width": _scale("generator"),
    "discriminator.width": _scale("discriminator"),
    "generator.depth": _deepen_generator,
    "discriminator.depth": _deepen_discriminator,
    "generator.kernel": _set_kernel("generator"),
    "discriminator.kernel": _set_kernel("discriminator"),
    "optimizer.beta1": _set_beta1,
}


# Parameters that the derived ones set; a space cannot have both.
SET_BY: Mapping[str, Sequence[str]] = {
    "generator.width": ("generator.channels", "generator.base_channels"),
    "discriminator.width": ("discriminator.channels",),
    "generator.depth": ("generator.channels", "generator.kernels", "generator.strides"),
    "discriminator.depth": (
        *("discriminator.channels", "discriminator.kernels", "discriminator.strides"),
    ),
    "generator.kernel": ("generator.kernels",),
    "discriminator.kernel": ("discriminator.kernels",),
    "optimizer.beta1": ("optimizer.generator.beta1", "optimizer.discriminator.beta1"),
}


def configure(train: TrainSettings, values: Values, image_size: int) -> TrainSettings:
    """Return the settings of a point of the space.

    Args:
        train: the current configuration.
        values: the point's values by name.
        image_size: pixels a side that the networks must fit.

    Raises:
        ValueError: if there is no such parameter, or if the values make no sense together; its
            message is one line.
    """
    tree = json.loads(train.model_dump_json())
    derived = [(name, values[name]) for name in DERIVED if name in values]
    for name, value in derived:
        try:
            DERIVED[name](tree, value)
        except (IndexError, TypeError) as error:
            raise ValueError(f"{name}: {value!r} is not possible here") from error
    for name, value in values.items():
        if name not in DERIVED:
            _set(tree, name, value)
    try:
        chosen = TrainSettings.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        faults = [".".join(map(str, f["loc"])) + f": {f['msg']}" for f in error.errors()]
        raise ValueError("; ".join(faults)) from error
    check_training(chosen)
    chosen.check_image_size(image_size)
    return chosen


def current(train: TrainSettings, space: Mapping[str, Range | Choices]) -> dict[str, Any]:
    """Return the point of the current configuration.

    Raises:
        ValueError: if the space does not contain it; its message begins with the name.
    """
    tree = json.loads(train.model_dump_json())
    point: dict[str, Any] = {}
    for name, candidates in space.items():
        value = _value_of(tree, name)
        if not _contains(candidates, value):
            raise ValueError(
                f"{name}: the current configuration has {json.dumps(value)}, which is not in the "
                "space; put it in, or take the name out"
            )
        point[name] = value
    return point


def check_names(train: TrainSettings, names: Iterable[str]) -> None:
    """Refuse names that a search cannot use.

    These are names that are no parameters of a class, parameters that do not change a trial's
    score, and derived parameters beside those that they set.

    Raises:
        ValueError: its message begins with the name.
    """
    tree = json.loads(train.model_dump_json())
    names = list(names)
    for name in names:
        if name.partition(".")[0] in UNSEARCHED:
            raise ValueError(f"{name}: it is not for a search to choose")
        if name not in DERIVED:
            _value_of(tree, name)
        for other in SET_BY.get(name, ()):
            if other in names:
                raise ValueError(f"{name}: it sets {other}, which is in the space too; keep one")


def check_space(
    train: TrainSettings, space: Mapping[str, Range | Choices], image_size: int
) -> None:
    """Refuse a space that cannot be searched from the current configuration.

    Every choice and both ends of each range are checked alone. Combinations are checked when a
    trial draws them.

    Raises:
        ValueError: its message begins with the name.
    """
    current(train, space)
    for name, candidates in space.items():
        if isinstance(candidates, Range):
            values: Sequence[Choice] = (candidates.low, candidates.high)
        else:
            values = candidates
        for value in values:
            try:
                configure(train, {name: value}, image_size)
            except ValueError as error:
                raise ValueError(f"{name}: {_plain(value)!r} is refused: {error}") from error


def _contains(candidates: Range | Choices, value: Any) -> bool:
    """Return whether a range or a list of choices contains a value."""
    if isinstance(candidates, Range):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_whole = is_number and value == int(value)
        is_inside = is_number and candidates.low <= value <= candidates.high
        return is_inside and (is_whole or not candidates.whole)
    return any(_plain(choice) == value for choice in candidates)


def _plain(choice: Choice) -> Any:
    """Return a choice in the form that it has in a file."""
    return list(choice) if isinstance(choice, tuple) else choice


def _value_of(tree: Tree, name: str) -> Any:
    """Return the current configuration's value of a name.

    Raises:
        ValueError: if there is no such parameter, or it has several values.
    """
    network, _, what = name.rpartition(".")
    if name not in DERIVED:
        parent: Any = tree
        for key in name.split("."):
            if not isinstance(parent, dict) or key not in parent:
                renamed = new_name(name)
                hint = f"; it is called {renamed} now" if renamed else ""
                raise ValueError(f"{name}: there is no such parameter of a class{hint}")
            parent = parent[key]
        return parent
    if what == "width":
        return 1.0
    if what == "depth":
        return 0
    if what == "beta1":
        values = {tree["optimizer"][part]["beta1"] for part in NETWORKS}
    else:
        layers = zip(tree[network]["kernels"], tree[network]["strides"], strict=True)
        values = {kernel for kernel, stride in layers if stride > 1}
    if len(values) != 1:
        raise ValueError(f"{name}: the current configuration has several, {sorted(values)}")
    return values.pop()


def _set(tree: Tree, name: str, value: Any) -> None:
    """Set a parameter that is not derived; it must exist."""
    _value_of(tree, name)
    *sections, last = name.split(".")
    for section in sections:
        tree = tree[section]
    tree[last] = _plain(value)
