"""What benchmarks share: copies of the project, its named networks, measurements in processes."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
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


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_stage(folder: Path, *module: str) -> None:
    """Run a stage of a copy."""
    subprocess.run(
        [sys.executable, "-m", *module], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )


def in_a_process(module: str, *arguments: str) -> dict[str, float]:
    """One measurement by a new process of a benchmark's module, which prints it as JSON."""
    command = [sys.executable, "-m", module, "--measure", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    values: dict[str, float] = json.loads(done.stdout)
    return values


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    with suppress(OSError):  # it has ended
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                found += family(int(child))
    return found


def anonymous_mib(pid: int) -> float:
    """Memory of a process that no file backs."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


def record(path: Path, result: dict[str, Any], show: Callable[[dict[str, Any]], None]) -> None:
    """Write a benchmark's result, show it, and say where it is."""
    write_json(path, result)
    show(result)
    print(f"written to {path.relative_to(ROOT)}")


def settings_of_networks(name: str) -> list[str]:
    """The settings of a file of networks/, as ``key=value`` below train.<class>."""
    lines = (ROOT / "networks" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]
