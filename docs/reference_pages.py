"""Reference pages that are written from the code: parameters, commands, stages and the Python API.

Each function returns the Markdown that replaces a mark such as `<!-- generated: parameters -->` in
a page of docs/reference. Nothing here imports MkDocs.
"""

import json
import math
import os
import re
import subprocess
import sys
from ast import get_docstring, parse
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from src.config import registry
from src.config.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("normal", "pneumonia")
BESIDE = 6  # columns from a key to the comment beside it, at least
HELP_WIDTH = "90"  # characters of a line of a command's help
# Of JSON schema, as a reader writes them.
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w.]+):(?P<value>[^#]*)(?:# ?(?P<comment>.*))?$")
_TARGET = re.compile(r"^([a-z-]+):.*?## (.*)$", re.MULTILINE)


@dataclass
class Parameter:
    """One key of params.yaml: a value, or a group of keys that has a comment.

    Attributes:
        path: dotted path, such as `fid.batch_size`.
        value: the committed value as YAML, None for a group.
        comment: what params.yaml says beside or above it.
        values: the committed value of each class, below `train.<class>`.
    """

    path: str
    value: str | None
    comment: str
    values: dict[str, str] = field(default_factory=dict)


def parameters(root: Path = ROOT) -> str:
    """Describe every parameter of params.yaml: default, allowed values and meaning."""
    schema = Settings.model_json_schema()
    lines: list[str] = []
    section = ""
    for parameter in read_parameters((root / "params.yaml").read_text(encoding="utf-8")):
        head = parameter.path.partition(".")[0]
        if head != section:
            section = head
            lines += ["", f"## {section}", ""]
            if "." not in parameter.path:
                lines += [f"{_sentence(parameter.comment)}", ""] if parameter.comment else []
            lines += ["| parameter | default | allowed | meaning |", "|---|---|---|---|"]
        if "." not in parameter.path:
            continue
        cells = (
            f"`{parameter.path}`",
            _default(parameter),
            _allowed(_schema_of(schema, parameter.path), schema),
            _escape(parameter.comment),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines).strip() + "\n"


def choices() -> str:
    """List what can be chosen by name, with the words of the registry."""
    lines: list[str] = []
    for title, table in vars(registry).items():
        if title.isupper() and isinstance(table, Mapping):
            lines += [f"### {_title(title)}", "", "| name | what it is |", "|---|---|"]
            lines += [f"| `{name}` | {_escape(entry.words)} |" for name, entry in table.items()]
            lines.append("")
    return "\n".join(lines)


def read_parameters(text: str) -> list[Parameter]:
    """Read the keys of params.yaml in their order, with their comments.

    Keys of the two classes become one, `train.<class>`, with NORMAL's comments and both values.
    """
    tree = YAML(typ="safe", pure=True).load(text)
    comments = dict(_comments(text))
    found: dict[str, Parameter] = {}
    for path, value in _walk(tree):
        shared, name = path, ""
        for label in CLASSES:
            if path == f"train.{label}" or path.startswith(f"train.{label}."):
                shared, name = path.replace(f"train.{label}", "train.<class>", 1), label
        group = _is_group(value)
        comment = comments.get(path, "")
        if shared not in found and (not group or comment or "." not in path):
            found[shared] = Parameter(shared, None if group else _yaml(value), comment)
        if shared in found and name and not group:
            found[shared].values[name] = _yaml(value)
    return list(found.values())


def commands(root: Path = ROOT) -> str:
    """Describe every command, `python -m src.<name>`, by its own help, and every Make target."""
    names = command_names(root)
    with ThreadPoolExecutor(2) as pool:
        helps = dict(zip(names, pool.map(lambda name: _help(root, name), names), strict=True))
    lines = ["## Commands", ""]
    for name in names:
        lines += [f"### python -m src.{name}", "", "```text", helps[name].rstrip(), "```", ""]
    lines += ["## Make targets", "", "| command | what it does |", "|---|---|"]
    for target, told in _TARGET.findall((root / "Makefile").read_text(encoding="utf-8")):
        lines.append(f"| `make {target}` | {_escape(told)} |")
    return "\n".join(lines) + "\n"


def command_names(root: Path = ROOT) -> list[str]:
    """List the commands; every module directly in src/ is one."""
    return sorted(path.stem for path in (root / "src").glob("[!_]*.py"))


def stages(root: Path = ROOT) -> str:
    """Describe every stage of dvc.yaml: command, parameters, inputs and outputs."""
    pipeline = YAML(typ="safe", pure=True).load((root / "dvc.yaml").read_text(encoding="utf-8"))
    lines: list[str] = []
    for name, stage in pipeline["stages"].items():
        code = ("src/", "pipeline/", "LICENSE")
        inputs = [path for path in stage["deps"] if not path.startswith(code)]
        outputs = _paths(stage["outs"]) + _paths(stage.get("metrics", []))
        lines += [f"### {name}", "", f"{_sentence(stage['desc'])}", ""]
        rows = (
            ("command", [stage["cmd"].removeprefix("exec ")]),
            ("parameters", _paths(stage.get("params", []))),
            ("reads", inputs),
            ("writes", outputs),
        )
        table = [
            f"| {title} | {', '.join(f'`{value}`' for value in values)} |"
            for title, values in rows
            if values
        ]
        lines += [table[0], "|---|---|", *table[1:], ""]
    return "\n".join(lines)


def api_packages(root: Path = ROOT) -> dict[str, str]:
    """First line of the docstring of each package of the library."""
    found = {}
    for file in sorted((root / "src").glob("*/__init__.py")):
        told = get_docstring(parse(file.read_text(encoding="utf-8"))) or ""
        found[file.parent.name] = told.partition("\n")[0]
    return found


def api_overview(root: Path = ROOT) -> str:
    """List the packages of the library, each with a link to its page."""
    lines = ["| package | what it holds |", "|---|---|"]
    lines += [f"| [src.{name}]({name}.md) | {told} |" for name, told in api_packages(root).items()]
    return "\n".join(lines) + "\n"


def api_page(package: str, root: Path = ROOT) -> str:
    """Write the page of one package: directives by which mkdocstrings inserts each module."""
    lines = [f"# src.{package}", "", api_packages(root)[package], ""]
    for file in sorted((root / "src" / package).glob("[!_]*.py")):
        lines += [f"::: src.{package}.{file.stem}", ""]
    return "\n".join(lines)


def _help(root: Path, name: str) -> str:
    """Return the output of `python -m src.<name> --help`."""
    command = [sys.executable, "-m", f"src.{name}", "--help"]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True, env=_environment()
    )
    return done.stdout


def _environment() -> dict[str, str]:
    return os.environ | {"COLUMNS": HELP_WIDTH, "NO_COLOR": "1", "PYTHON_COLORS": "0"}


def _walk(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key with its dotted path, a group before what it holds."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        yield path, value
        if _is_group(value):
            yield from _walk(value, f"{path}.")


def _is_group(value: Any) -> bool:
    """Whether a value holds other parameters; a range of the search space is one value."""
    return isinstance(value, Mapping) and value.keys() != {"low", "high", "log"}


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Yield the comment of each key: beside it, on the lines below it, or on the lines above it.

    A line below belongs to the key if it is indented far more than the key is.
    """
    open_keys: list[tuple[int, str]] = []
    told: dict[str, list[str]] = {}
    above: list[str] = []
    path, beside = "", math.inf
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            if line.index("#") >= beside:
                told[path].append(stripped[1:].strip())
            else:
                above.append(stripped[1:].strip())
            continue
        match = _KEY.match(line)
        if match is None:
            above, beside = [], math.inf
            continue
        indent = len(match["indent"])
        open_keys = [entry for entry in open_keys if entry[0] < indent]
        open_keys.append((indent, match["key"]))
        path = ".".join(key for _, key in open_keys)
        beside = indent + BESIDE
        told[path] = [*above, *([match["comment"].strip()] if match["comment"] else [])]
        above = []
    yield from ((path, " ".join(words)) for path, words in told.items())


def _yaml(value: Any) -> str:
    """Return a value as it may be written in params.yaml."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return value if isinstance(value, str) and value else json.dumps(value)


def _default(parameter: Parameter) -> str:
    """Return the cell of the committed value; both where the classes differ."""
    if parameter.value is None:
        return ""
    values = dict.fromkeys(parameter.values.values()) or {parameter.value: None}
    return ", ".join(f"`{value}`" for value in values)


def _schema_of(schema: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Return the part of the JSON schema that describes a parameter; empty if there is none."""
    part: Mapping[str, Any] = schema
    for key in path.replace("<class>", CLASSES[0]).split("."):
        part = _resolved(part, schema).get("properties", {}).get(key, {})
    return _resolved(part, schema)


def _resolved(part: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = part.get("$ref", "")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else part


def _allowed(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Describe the values that a JSON schema allows."""
    part = _resolved(part, schema)
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_allowed(one, schema) for one in part["anyOf"]))
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    kind = part.get("type")
    if kind == "array":
        return f"list, each {_allowed(part.get('items', {}), schema)}"
    if kind in ("integer", "number"):
        bounds = [
            f"{sign} {_number(part[key])}"
            for key, sign in BOUNDS.items()
            if key in part and not (key == "minimum" and "exclusiveMinimum" in part)
        ]
        return " ".join([kind, ", ".join(bounds)]).strip()
    if kind == "string" and "64" in part.get("pattern", ""):
        return "SHA-256, or empty"
    return {"string": "text", "boolean": "`true`, `false`"}.get(str(kind), "")


def _title(constant: str) -> str:
    """Return the name of a table as a heading."""
    return constant.replace("_", " ").capitalize()


def _number(value: float) -> str:
    """Return a bound; a large power of two as such."""
    if value >= 1 << 16 and int(value).bit_count() == 1:
        return f"2^{int(value).bit_length() - 1}"
    return str(value)


def _paths(entries: list[Any]) -> list[str]:
    """Return the names in a list of dvc.yaml, whose entries may carry options."""
    return [next(iter(entry)) if isinstance(entry, Mapping) else entry for entry in entries]


def _sentence(words: str) -> str:
    """Return the words with a capital at the head and a full stop at the end."""
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _escape(words: str) -> str:
    """Keep a table's cell in one cell."""
    return re.sub(r"([|\[\]])", r"\\\1", words).replace("<", "&lt;")
