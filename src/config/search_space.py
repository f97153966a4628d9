"""The space of a search: which parameters of a class may change, and what a point of it stands for.

A name is a parameter of ``train.<class>``, such as ``generator.latent_dim``, or one of ``DERIVED``,
which change several at once and are told relative to the current configuration.
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
UNSEARCHED = ("epochs", "samples", "seed")  # the budget ends a trial, and luck is no choice
MULTIPLE = 8  # of which widths are, for the sake of the processor


def _scale(network: str) -> Callable[[Tree, float], None]:
    """Multiply all filters of a network."""

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
    """Add so many layers at the small maps, or take them away."""
    part = tree["generator"]
    for _ in range(layers):
        part["channels"].insert(0, part["base_channels"])
        part["kernels"].insert(0, part["kernels"][0])
        part["strides"].insert(0, 2)
    for _ in range(-layers):
        part["base_channels"] = part["channels"].pop(0)
        del part["kernels"][0], part["strides"][0]


def _deepen_discriminator(tree: Tree, layers: int) -> None:
    """The same of the discriminator, whose small maps come last."""
    part = tree["discriminator"]
    for _ in range(layers):
        part["channels"].append(part["channels"][-1])
        part["kernels"].append(part["kernels"][-1])
        part["strides"].append(2)
    for _ in range(-layers):
        for name in ("channels", "kernels", "strides"):
            part[name].pop()


def _set_kernel(network: str) -> Callable[[Tree, int], None]:
    """Set the kernels of all layers that change the size."""

    def set_kernel(tree: Tree, kernel: int) -> None:
        part = tree[network]
        part["kernels"] = [
            kernel if stride > 1 else old
            for old, stride in zip(part["kernels"], part["strides"], strict=True)
        ]

    return set_kernel


def _set_beta1(tree: Tree, beta1: float) -> None:
    """Set it of both optimizers."""
    for network in NETWORKS:
        tree["optimizer"][network]["beta1"] = beta1


# In the order in which they are applied.
DERIVED: Mapping[str, Callable[[Tree, Any], None]] = {
    "generator.width": _scale("generator"),
    "discriminator.width": _scale("discriminator"),
    "generator.depth": _deepen_generator,
    "discriminator.depth": _deepen_discriminator,
    "generator.kernel": _set_kernel("generator"),
    "discriminator.kernel": _set_kernel("discriminator"),
    "optimizer.beta1": _set_beta1,
}


# Parameters that these set, which therefore cannot stand beside them in a space.
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
    """The settings that a point of the space stands for.

    Args:
        train: the current configuration.
        values: by name.
        image_size: pixels a side that the networks must fit.

    Raises:
        ValueError: if there is no such parameter, or if the values make no sense together; one
            line.
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
    """The point that is the current configuration.

    Raises:
        ValueError: if the space does not have it; it begins with the name.
    """
    tree = json.loads(train.model_dump_json())
    point: dict[str, Any] = {}
    for name, among in space.items():
        value = _value_of(tree, name)
        if not _holds(among, value):
            raise ValueError(
                f"{name}: the current configuration has {json.dumps(value)}, which is not in the "
                "space; put it in, or take the name out"
            )
        point[name] = value
    return point


def check_names(train: TrainSettings, names: Iterable[str]) -> None:
    """Refuse names that are no parameters of a class, or that do not change what a trial scores.

    And those of which one would undo what another has set.

    Raises:
        ValueError: it begins with the name.
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
    """Refuse what cannot be searched from the current configuration.

    Every choice and both ends of each range are tried alone; whether several make sense together is
    seen when a trial does so.

    Raises:
        ValueError: it begins with the name.
    """
    current(train, space)
    for name, among in space.items():
        for value in (among.low, among.high) if isinstance(among, Range) else among:
            try:
                configure(train, {name: value}, image_size)
            except ValueError as error:
                raise ValueError(f"{name}: {_plain(value)!r} is refused: {error}") from error


def _holds(among: Range | Choices, value: Any) -> bool:
    if isinstance(among, Range):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = number and value == int(value)
        return number and among.low <= value <= among.high and (whole or not among.whole)
    return any(_plain(choice) == value for choice in among)


def _plain(choice: Choice) -> Any:
    """A choice as it stands in a file."""
    return list(choice) if isinstance(choice, tuple) else choice


def _value_of(tree: Tree, name: str) -> Any:
    """What the current configuration has under a name."""
    network, _, what = name.rpartition(".")
    if name not in DERIVED:
        place: Any = tree
        for key in name.split("."):
            if not isinstance(place, dict) or key not in place:
                renamed = new_name(name)
                hint = f"; it is called {renamed} now" if renamed else ""
                raise ValueError(f"{name}: there is no such parameter of a class{hint}")
            place = place[key]
        return place
    if what == "width":
        return 1.0
    if what == "depth":
        return 0
    if what == "beta1":
        found = {tree["optimizer"][part]["beta1"] for part in NETWORKS}
    else:
        layers = zip(tree[network]["kernels"], tree[network]["strides"], strict=True)
        found = {kernel for kernel, stride in layers if stride > 1}
    if len(found) != 1:
        raise ValueError(f"{name}: the current configuration has several, {sorted(found)}")
    return found.pop()


def _set(tree: Tree, name: str, value: Any) -> None:
    _value_of(tree, name)
    *sections, last = name.split(".")
    for section in sections:
        tree = tree[section]
    tree[last] = _plain(value)
