"""What benchmarks share: copies of the project, measurements in processes, and their records."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from src.common.files import write_json
from src.config.compute import ComputeSettings

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


def compute_settings(**changes: Any) -> ComputeSettings:
    """Make the section compute with the values of params.yaml as committed, but for some."""
    values = {
        "device": "auto",
        "threads": "auto",
        "precision": "auto",
        "memory_format": "auto",
        "compile": False,
        "cuda_graphs": True,
    }
    return ComputeSettings.model_validate(values | changes)


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def is_the_users(name: str) -> bool:
    """Whether an environment variable would lead a copy to a user's server, account or DVC."""
    known = ("KAGGLE_USERNAME", "KAGGLE_KEY", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
    return name in (*known, "TUNE_STORAGE") or name.startswith("DVC_")


def without_the_users() -> dict[str, str]:
    """The environment of what works in a copy, which has stores of its own."""
    return {name: value for name, value in os.environ.items() if not is_the_users(name)}


def start_stage(folder: Path, *module: str) -> "subprocess.Popen[bytes]":
    """Start a stage or a command of a copy."""
    command = [sys.executable, "-m", *module]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=without_the_users())


def run_stage(folder: Path, *module: str) -> None:
    """Run a stage of a copy."""
    command = [sys.executable, "-m", *module]
    environment = without_the_users()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)


def processor() -> str:
    """The processor's name and its widest vector instructions."""
    capabilities = torch.cpu.get_capabilities()
    known = ("amx_bf16", "avx512_bf16", "avx512_f", "avx2")
    widest = [name for name in known if capabilities.get(name)][:1]
    return " ".join([str(capabilities.get("cpu_name", "unknown")), *widest])


def machine() -> dict[str, Any]:
    """What a result was measured on."""
    return {"processor": processor(), "cores": len(os.sched_getaffinity(0))}


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
