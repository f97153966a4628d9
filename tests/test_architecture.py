"""The arrows point one way, and dvc.yaml names the code that each stage depends on."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from src.config import registry
from src.config.data import DataSettings
from tests.conftest import ROOT

DVC: dict[str, Any] = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())
# Code that reports, checks, finds files or names contents; an output would change in names and
# addresses alone. dvc.yaml says so too.
HARNESS = {
    "pipeline/checkpoints.py",
    "pipeline/stage.py",
    "src/common/cache.py",
    "src/common/errors.py",
    "src/common/files.py",
    "src/common/locks.py",
    "src/common/logging.py",
    "src/common/outputs.py",
    "src/common/paths.py",
    "src/common/processes.py",
    "src/common/progress.py",
    "src/config/base.py",
    "src/config/checks.py",
    "src/config/registry.py",
    "src/config/renames.py",
    "src/config/settings.py",
    "src/tracking/address.py",
    "src/tracking/delivery.py",
    "src/tracking/failures.py",
    "src/tracking/outbox.py",
    "src/tracking/registered_model.py",
    "src/tracking/registry.py",
    "src/tracking/runs.py",
    "src/tracking/store.py",
    "src/training/launch.py",
}
# Every module directly in src/ is a command, `python -m src.<name>`.
COMMANDS = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src").glob("[!_]*.py")}
SCIENCE = {"config", "data", "metrics", "models", "privacy", "training", "utility"}
TEMPLATES = ("card.md", "page.html", "page.js", "style.css")  # of the report
STAGES = {
    "fetch": "pipeline/fetch.py",
    "preprocess": "pipeline/preprocess.py",
    "train_normal": "pipeline/train.py",
    "train_pneumonia": "pipeline/train.py",
    "fid_eval": "pipeline/fid_eval.py",
    "privacy_eval": "pipeline/privacy_eval.py",
    "utility_eval": "pipeline/utility_eval.py",
    "report": "pipeline/report.py",
}


def imported(path: Path) -> set[str]:
    """The project's files that a file imports by themselves, from anywhere in it."""
    found = set()
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            file = name.replace(".", "/") + ".py"
            if name.partition(".")[0] in ("src", "pipeline") and (ROOT / file).is_file():
                found.add(file)
    return found


def loaded(path: Path) -> set[str]:
    """The project's files that a file imports by a name of the registry: all that it may load."""
    names = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("config.registry")
        for alias in node.names
    }
    tables = [getattr(registry, name) for name in names if name.isupper()]
    entries = [entry for table in tables for entry in table.values()] if "load" in names else []
    return {f"src/{entry.code.partition(':')[0].replace('.', '/')}.py" for entry in entries}


def closure(file: str) -> set[str]:
    """The code that a file runs, not following the harness."""
    seen: set[str] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current not in seen and current not in HARNESS:
            seen.add(current)
            waiting += imported(ROOT / current) | loaded(ROOT / current)
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_exact_code(stage: str) -> None:
    code = {dep for dep in DVC["stages"][stage]["deps"] if dep.startswith(("src/", "pipeline/"))}
    expected = closure(STAGES[stage])
    if "src/report/pages.py" in expected:
        expected |= {f"src/report/{name}" for name in TEMPLATES}
    assert code == expected


def test_the_stages_have_their_names_and_say_what_they_do() -> None:
    assert list(DVC["stages"]) == list(STAGES)
    assert all(stage["desc"] for stage in DVC["stages"].values())
    assert {entry["path"] for entry in DVC["artifacts"].values()} == {
        "models/normal/generator.pt",
        "models/pneumonia/generator.pt",
    }


def test_images_are_fetched_again_for_all_of_data_but_names() -> None:
    fetched = {f"data.{name}" for name in DataSettings.model_fields if name != "names"}
    assert set(DVC["stages"]["fetch"]["params"]) == fetched


def test_the_harness_is_stated_in_dvc_yaml() -> None:
    header = (ROOT / "dvc.yaml").read_text().partition("stages:")[0]
    assert all(file in header for file in HARNESS)


@pytest.mark.parametrize("file", sorted(path.relative_to(ROOT).as_posix()
                                        for path in (ROOT / "src").rglob("*.py")))  # fmt: skip
def test_the_library_knows_nothing_of_stages_and_only_tracking_knows_mlflow(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    absolute = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level
            else [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else []
        )
    }  # fmt: skip
    assert not absolute & {"pipeline", "dvc", "src"}  # within the library imports are relative
    assert "argparse" not in absolute or file in COMMANDS
    assert "mlflow" not in absolute or file.startswith("src/tracking/")
    if file.split("/")[1] in SCIENCE:
        others = {name.split("/")[1] for name in imported(ROOT / file)}
        assert not others & {"tracking", "tuning", "report"}


def test_the_science_can_be_imported_where_mlflow_and_dvc_cannot() -> None:
    code = """
import sys
sys.modules["mlflow"] = sys.modules["dvc"] = None
import numpy as np, torch
import src.training.loop, src.metrics.protocol, src.metrics.classifier
import src.metrics.inception, src.metrics.verdict, src.data.sources, src.data.preprocess
print("ran")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "ran\n"


def test_versions_that_are_written_twice_are_the_same() -> None:
    """Those of the servers in compose.yaml, and of what the requirements name."""
    named = r"^([A-Za-z][\w.-]*)(?:\[\w+\])?==([\w.]+)"
    lock = dict(re.findall(named, (ROOT / "requirements-lock.txt").read_text(), re.MULTILINE))
    locked = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lock.items()}
    texts = [(ROOT / f"requirements{part}.txt").read_text() for part in ("", "-dev", "-radiomics")]
    texts.append("\n".join(re.findall(r"[\w\[\]-]+==[\w.]+", (ROOT / "compose.yaml").read_text())))
    for name, version in re.findall(named, "\n".join(texts), re.MULTILINE):
        assert locked.get(re.sub(r"[-_.]+", "-", name).lower()) == version, name


def test_every_module_says_what_it_is() -> None:
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "pipeline").rglob("*.py")]:
        assert ast.get_docstring(ast.parse(path.read_text())), path
