"""Presets: named networks and trainings of one class, in the files ``networks/<name>.yaml``.

A preset is nested as ``train.normal`` of params.yaml is, and names only what it changes. Its key
``image_size`` is ``preprocess.image_size``, which the strides must fit. This module alone reads the
files. It imports neither pydantic nor a YAML reader before a preset is loaded, so that commands
list the names at once.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..common.errors import UserError
from ..common.paths import PROJECT
from .renames import new_name

FOLDER = PROJECT / "networks"
IMAGE_SIZE = "image_size"  # the one key of a preset that both classes share


def preset_names() -> list[str]:
    """List the names of the presets, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def preset_sizes() -> dict[str, int | None]:
    """Return the image size of each preset in pixels, None where it states none.

    Only that line of a file is read, since a fault elsewhere in it must not hide another one.
    """
    pattern = re.compile(rf"^{IMAGE_SIZE}: *([0-9]+)", re.MULTILINE)
    sizes = {}
    for name in preset_names():
        found = pattern.search((FOLDER / f"{name}.yaml").read_text("utf-8", "replace"))
        sizes[name] = int(found[1]) if found else None
    return sizes


def preset_overrides(name: str, label: str) -> list[str]:
    """Return the settings of a preset for a class as overrides ``section.key=<YAML value>``.

    They begin with ``train.<class>.``, but for ``preprocess.image_size`` where the preset has it.

    Args:
        name: name of the preset.
        label: the class, ``normal`` or ``pneumonia``.

    Raises:
        UserError: if there is no such preset, or it has a key that is no setting of a class.
    """
    return [
        f"{f'preprocess.{key}' if key == IMAGE_SIZE else f'train.{label}.{key}'}={_as_yaml(value)}"
        for key, value in _leaves(_read_preset(name))
    ]


def _read_preset(name: str) -> dict[str, Any]:
    """Read the file of a preset, and refuse keys that are no settings of a class."""
    from .settings import parse_yaml
    from .train import TrainSettings

    if name not in preset_names():
        raise UserError(f"{name}: there is no such preset; choose {' or '.join(preset_names())}")
    file = f"networks/{name}.yaml"
    try:
        text = (FOLDER / f"{name}.yaml").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: it cannot be read: {error}") from None
    tree = parse_yaml(text, file)
    if not isinstance(tree, dict):
        raise UserError(f"{file}: it must be a mapping of settings such as generator and loss")
    settings = {key: value for key, value in tree.items() if key != IMAGE_SIZE}
    for key in _unknown_keys(settings, TrainSettings):
        renamed = new_name(key)
        advice = f"it is called {renamed} now" if renamed else "train.normal has no such setting"
        raise UserError(f"{file}: {key}: {advice}")
    return tree


def _unknown_keys(tree: Mapping[str, Any], section: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of ``tree`` that are no fields of ``section``, a pydantic model."""
    for key, value in tree.items():
        field = section.model_fields.get(key)
        inner = getattr(field, "annotation", None)
        if field is None or isinstance(value, Mapping) != hasattr(inner, "model_fields"):
            yield f"{prefix}{key}"
        elif isinstance(value, Mapping):
            yield from _unknown_keys(value, inner, f"{prefix}{key}.")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a nested mapping that is no mapping itself, with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _as_yaml(value: Any) -> str:
    """Write a value on one line without blanks, as YAML and `dvc exp run -S` both read it."""
    if isinstance(value, list):
        return f"[{','.join(map(_as_yaml, value))}]"
    if isinstance(value, str) and re.fullmatch(r"(?!(true|false|null|nan|inf)$)[a-z_]+", value):
        return value
    return json.dumps(value)
