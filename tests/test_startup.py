"""Commands answer before anything heavy is imported; `make bench-startup` measures how soon."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

COMMANDS = sorted(path.stem for path in (ROOT / "src").glob("[!_]*.py"))
HEAVY = ("torch", "mlflow", "pandas", "numpy", "pydantic", "optuna", "PIL", "scipy", "dvc")
RUN = """
import runpy, sys
module, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__")
except SystemExit as end:
    print("ended with", end.code)
print("imported", sorted({heavy}.intersection(sys.modules)))
"""


def run(command: str, *arguments: str) -> list[str]:
    """The last two lines: the exit status, and what was imported."""
    code = RUN.replace("{heavy}", repr(set(HEAVY)))
    done = subprocess.run(
        [sys.executable, "-c", code, f"src.{command}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-2:]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_there_at_once(command: str) -> None:
    assert run(command, "--help") == ["ended with 0", "imported []"]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_argument_is_refused_at_once(command: str) -> None:
    assert run(command, "--no-such-argument") == ["ended with 2", "imported []"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "--class", "norml", "--out", "x"),
        ("generate", "--truncation", "0.01", "--out", "x"),
        ("generate", "--interpolate", "walk.mp4"),
        ("evaluate", "a", "b", "--resize", "x"),
        ("evaluate", "a", "b", "--features", "pixels", "--weights", "x"),
        ("serve", "--class", "norml"),
        ("promote", "--class", "norml"),
        ("real", "x.zip", "--preset", "thesys"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == ["ended with 2", "imported []"]


def test_a_number_of_features_that_inception_lacks_is_refused_at_once() -> None:
    assert run("evaluate", "a", "b", "--dims", "100") == ["ended with 1", "imported []"]


def test_the_summary_reads_the_stages_files_alone() -> None:
    code = f"import sys, src.report.summary; print(sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("stage", ["fetch", "preprocess"])
def test_a_stage_without_networks_imports_no_torch(stage: str) -> None:
    heavy = {"torch", "mlflow", "pandas"}
    code = f"import sys, pipeline.{stage}; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
