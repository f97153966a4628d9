"""The reference has every parameter, command, target, stage and package."""

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from docs import reference_pages
from docs.reference_pages import Parameter, read_parameters
from src.config import registry
from src.config.renames import RENAMES
from tests.conftest import ROOT

TEXT = """\
data:
  path: ""       # where it is;
                 # empty downloads it
# One pair of networks
# for each class.
train:
  processes: 1
  normal:
    optimizer:   # what both share
      name: {kind: adam}
    seed: 1      # of the weights
  pneumonia:
    optimizer:
      name: {kind: adam}
    seed: 2
tune:
  # What may change.
  space:
    width: {low: 0.5, high: 1.5, log: false}
"""


def leaves(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict) or tree.keys() == {"low", "high", "log"}:
        return [prefix]
    return [
        leaf
        for key, value in tree.items()
        for leaf in leaves(value, f"{prefix}.{key}" if prefix else key)
    ]


def test_comments_stand_beside_below_or_above_their_key() -> None:
    assert read_parameters(TEXT) == [
        Parameter("data", None, ""),
        Parameter("data.path", '""', "where it is; empty downloads it"),
        Parameter("train", None, "One pair of networks for each class."),
        Parameter("train.processes", "1", ""),
        Parameter("train.<class>.optimizer", None, "what both share"),
        Parameter(
            "train.<class>.optimizer.name.kind", "adam", "", {"normal": "adam", "pneumonia": "adam"}
        ),
        Parameter("train.<class>.seed", "1", "of the weights", {"normal": "1", "pneumonia": "2"}),
        Parameter("tune", None, ""),
        Parameter("tune.space", None, "What may change."),
        Parameter("tune.space.width", "{low: 0.5, high: 1.5, log: false}", ""),
    ]


def test_every_parameter_is_in_the_reference() -> None:
    page = reference_pages.parameters()
    params = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    for path in leaves(params):
        shared = re.sub(r"^train\.(normal|pneumonia)\.", "train.<class>.", path)
        (row,) = re.findall(rf"^\| `{re.escape(shared)}` \|.*$", page, re.MULTILINE)
        cells = re.split(r"(?<!\\) \| ", row[2:])
        assert cells[1]
        assert cells[2] or path.startswith("tune.space."), row
    assert "| `train.<class>.seed` | `1`, `2` | integer ≥ 0, < 2^32 |" in page
    assert "| `compute.compile` | `false` | `true`, `false` |" in page


def test_every_choice_is_in_the_reference() -> None:
    page = reference_pages.choices()
    for table in (registry.LOSSES, registry.EXTRACTORS, registry.METRICS):
        for name, entry in table.items():
            assert f"| `{name}` | {entry.words} |" in page


def test_every_command_and_target_is_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_pages, "_help", lambda root, name: f"usage of {name}\n")
    page = reference_pages.commands()
    for file in (ROOT / "src").glob("[!_]*.py"):
        assert f"### python -m src.{file.stem}\n\n```text\nusage of {file.stem}\n```" in page
    for target in re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE):
        assert f"| `make {target}` | " in page


def test_every_stage_and_package_is_in_the_reference() -> None:
    page = reference_pages.stages()
    dvc = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())
    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == list(dvc["stages"])
    assert "| writes | `models/normal/generator.pt`, " in page
    for file in (ROOT / "src").glob("*/__init__.py"):
        name = file.parent.name
        assert f"| [src.{name}]({name}.md) | " in reference_pages.api_overview()
        for module in file.parent.glob("[!_]*.py"):
            assert f"::: src.{name}.{module.stem}\n" in reference_pages.api_page(name)


def test_the_changelog_has_every_renamed_parameter() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    for section, names in RENAMES.items():
        place = f"{section}.".removeprefix("train.*.")
        for old, new in names.items():
            assert f"| `{place}{old}` | `{place}{new}` |" in text


def test_the_pages_name_parameters_that_exist() -> None:
    params = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    known = {f"{leaf}.".replace("train.normal.", "train.<class>.") for leaf in leaves(params)}
    known |= {f"{leaf}." for leaf in leaves(params)}
    named = re.compile(rf"`((?:{'|'.join(params)})\.[a-z_.<>]+?)(?::[^`]*)?`")
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for name in set(named.findall(page.read_text())) - {"tune.journal"}:
            assert any(leaf.startswith(f"{name}.") for leaf in known), (page.name, name)


def test_the_pages_name_files_and_modules_that_exist() -> None:
    file = re.compile(r"`((?:src|pipeline|tests|benchmarks|docs|networks|examples)/[\w/.-]+\.\w+)`")
    module = re.compile(r"`(src\.[\w.]+)`")
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text()
        for name in file.findall(text):
            assert (ROOT / name).is_file(), (page.name, name)
        for name in module.findall(text):
            path = ROOT / name.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), (page.name, name)
