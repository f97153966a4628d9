"""Changing params.yaml while its comments and its order stay."""

import difflib
import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML


def changed_leaves(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What differs between two trees of the same keys, by dotted key."""
    found: dict[str, Any] = {}
    for key, old in before.items():
        new = after[key]
        if isinstance(old, Mapping):
            inner = changed_leaves(old, new)
            found |= {f"{key}.{name}": value for name, value in inner.items()}
        elif old != new:
            found[key] = new
    return found


def edited(text: str, changes: Mapping[str, Any]) -> str:
    """The text of params.yaml with values changed, by dotted key; every other value stays.

    So do the comments, and all other lines that are indented by two spaces.
    """
    yaml = YAML()  # keeps comments and order
    yaml.preserve_quotes = True
    yaml.width = 10_000  # lines are not folded
    tree = yaml.load(text)
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = tree
        for section in sections:
            place = place[section]
        if isinstance(value, list) and isinstance(place[last], list):
            place[last][:] = value  # keeps the style of the list
        else:
            place[last] = value
    written = io.StringIO()
    yaml.dump(tree, written)
    return written.getvalue()


def difference(before: str, after: str, name: str) -> str:
    """The changed lines, as `diff -u` shows them."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, f"{name} (new)", n=0, lineterm=""
    )
    return "\n".join(lines)
