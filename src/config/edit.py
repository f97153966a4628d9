"""Edits of params.yaml that keep its comments and its order."""

import difflib
import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML


def changed_leaves(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new values that differ between two trees of the same keys, by dotted key."""
    changes: dict[str, Any] = {}
    for key, old in before.items():
        new = after[key]
        if isinstance(old, Mapping):
            inner = changed_leaves(old, new)
            changes |= {f"{key}.{name}": value for name, value in inner.items()}
        elif old != new:
            changes[key] = new
    return changes


def edited(text: str, changes: Mapping[str, Any]) -> str:
    """Return the text of params.yaml with some values changed, by dotted key.

    All other values and the comments stay, and so do all other lines with an indent of two spaces.
    """
    yaml = YAML()  # keeps comments and order
    yaml.preserve_quotes = True
    yaml.width = 10_000  # lines are not folded
    tree = yaml.load(text)
    for key, value in changes.items():
        *sections, last = key.split(".")
        parent = tree
        for section in sections:
            parent = parent[section]
        if isinstance(value, list) and isinstance(parent[last], list):
            parent[last][:] = value  # keeps the style of the list
        else:
            parent[last] = value
    written = io.StringIO()
    yaml.dump(tree, written)
    return written.getvalue()


def difference(before: str, after: str, name: str) -> str:
    """Return the changed lines in the form of `diff -u`."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, f"{name} (new)", n=0, lineterm=""
    )
    return "\n".join(lines)
