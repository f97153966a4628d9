"""What benchmarks share: copies of the project, its named networks, measurements in processes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from src.files import write_json

ROOT = Path(__file__).resolve().parents[1]


def copy_project(folder: Path, without: Collection[str] = ()) -> None:
    """Copy the files that git holds or would hold to ``folder``, but those named."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and name not in without and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def in_a_process(module: str, *arguments: str) -> dict[str, float]:
    """One measurement by a new process of a benchmark's module, which prints it as JSON."""
    command = [sys.executable, "-m", module, "--measure", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    values: dict[str, float] = json.loads(done.stdout)
    return values


def record(path: Path, result: dict[str, Any], show: Callable[[dict[str, Any]], None]) -> None:
    """Write a benchmark's result, show it, and say where it is."""
    write_json(path, result)
    show(result)
    print(f"written to {path.relative_to(ROOT)}")


def settings_of_networks(name: str) -> list[str]:
    """The settings of a file of networks/, as ``key=value`` below train.<class>."""
    lines = (ROOT / "networks" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]
