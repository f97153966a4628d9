"""How soon commands answer and stages begin: `make bench-startup`.

CPU seconds of a first and a second call, in a copy of the project without bytecode that may not
write any, as in many containers. The packages have the bytecode that `make setup` left. Beside them
stand an empty Python and `import torch`, which bound what is possible.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.workspace import ROOT, copy_project, machine, record, without_the_users
from src.tracking.address import experiment_name, remember_experiment

RESULT = ROOT / "reports" / "benchmarks" / "startup.json"
COMMANDS = sorted(path.stem for path in (ROOT / "src").glob("[!_]*.py"))
STAGES = sorted(
    path.stem
    for path in (ROOT / "pipeline").glob("[!_]*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
GENERATOR = "tests/models/generator_0.1.pt"
COLUMNS = ("kind", "n", "mean", "std", "min", "50%", "max", "relative")


def calls() -> dict[str, list[str]]:
    """The arguments of Python for each measurement, by name."""
    drawn = ["--count", "1", "--out", "drawn", "--overwrite", "--model", GENERATOR]
    return {
        "python -c pass": ["-c", "pass"],
        "import torch": ["-c", "import torch"],
        **{f"{name} --help": ["-m", f"src.{name}", "--help"] for name in COMMANDS},
        "generate, a class that there is not": ["-m", "src.generate", "--class", "x", "--out", "x"],
        "summary": ["-m", "src.summary"],
        "generate, one image": ["-m", "src.generate", *drawn],
        **{f"import of the stage {name}": ["-c", f"import pipeline.{name}"] for name in STAGES},
    }


def prepare(folder: Path) -> None:
    """Make a copy of the project in which `summary` finds what a run leaves."""
    copy_project(folder)
    pairs = json.loads((ROOT / "reports" / "metrics" / "fid.json").read_text())["pairs"]
    table = folder / "reports" / "fid" / "describe.csv"
    table.parent.mkdir(parents=True)
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ("pair", *COLUMNS), restval="0", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({"pair": pair} | values for pair, values in pairs.items())
    (folder / "mlflow.db").touch()
    remember_experiment(folder, experiment_name(), "1")


def cpu_seconds(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> float:
    """CPU seconds of a process of Python and of what it starts.

    Raises:
        RuntimeError: if it fails for another reason than a refused argument.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):
        raise RuntimeError(f"{' '.join(arguments)}: it ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def measure() -> dict[str, dict[str, float]]:
    """CPU seconds of the first and the second call, by name."""
    environment = without_the_users() | {"PYTHONDONTWRITEBYTECODE": "1"}
    found = {}
    with tempfile.TemporaryDirectory(prefix="startup-") as name:
        prepare(Path(name))
        for call, arguments in calls().items():
            first, second = (cpu_seconds(arguments, Path(name), environment) for _ in range(2))
            found[call] = {"first": round(first, 2), "second": round(second, 2)}
    return found


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'CPU seconds':<40}{'first':>8}{'second':>8}")
    for name, seconds in result["cpu_seconds"].items():
        print(f"{name:<40}{seconds['first']:>8.2f}{seconds['second']:>8.2f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write."""
    argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__).parse_args(
        argv
    )
    record(RESULT, {**machine(), "cpu_seconds": measure()}, show)
    return 0


if __name__ == "__main__":
    sys.exit(main())
