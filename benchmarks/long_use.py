"""Whether memory and open files stay flat over thousands of steps, trials and requests.

`make bench-long-use`: in a copy of the project with small networks a training, a search with one
worker and the server of images work for some minutes each, while memory (anonymous pages) and open
files of the process and all that it started are looked at every second. The slopes are those of
lines through the second half. Writes long_use.json and long_use.png to reports/benchmarks.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from benchmarks.large_data import set_size
from benchmarks.workspace import (
    ROOT,
    anonymous_mib,
    copy_project,
    family,
    free_port,
    machine,
    record,
    run_stage,
    start_stage,
)
from src.common.errors import report_errors
from src.report.figures import as_png

FOLDER = ROOT / "reports" / "benchmarks"
IMAGES = 2_000
EPOCHS = 300
TRIALS = 120
REQUESTS = 8_000
CLIENTS = 50
IMAGES_PER_REQUEST = 4


@dataclass
class Watched:
    """What a process and its children held, second by second."""

    work: str  # what is counted
    done: list[float] = field(default_factory=list)  # so much of it
    mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def look(self, pid: int, done: float) -> None:
        """Note what it holds now."""
        pids = family(pid)
        self.done.append(done)
        self.mib.append(sum(anonymous_mib(one) for one in pids))
        self.files.append(sum(_open_files(one) for one in pids))

    def summary(self) -> dict[str, Any]:
        """The second half in five parts, and what a thousand more cost."""
        # Where all is done the process puts things away.
        working = np.array(self.done) < self.done[-1]
        done, mib, files = (
            np.array(values)[working][working.sum() // 2 :]
            for values in (self.done, self.mib, self.files)
        )
        return {
            "work": self.work,
            "done": self.done[-1],
            "mib": [round(float(np.median(part)), 1) for part in np.array_split(mib, 5)],
            "mib_per_thousand": round(1000 * float(np.polyfit(done, mib, 1)[0]), 3),
            "open_files": [int(np.median(part)) for part in np.array_split(files, 5)],
        }


def _open_files(pid: int) -> int:
    with suppress(OSError):  # it has ended
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def watch(
    work: str, process: "subprocess.Popen[bytes]", count: Callable[[], float], goal: float
) -> Watched:
    """Look every second until the goal is reached or the process has ended."""
    watched = Watched(work)
    done = 0.0
    while process.poll() is None and done < goal:
        done = count()
        watched.look(process.pid, done)
        time.sleep(1)
    return watched


def rows_of(folder: Path, query: str) -> float:
    """A number that MLflow's store of a folder tells; 0 if it is not there yet."""
    with suppress(sqlite3.Error), sqlite3.connect(folder / "mlflow.db") as store:
        return float(store.execute(query).fetchone()[0] or 0)
    return 0.0


def training(folder: Path) -> Watched:
    """Thousands of steps."""
    steps = (IMAGES // 2 - round(IMAGES * 0.05)) // 32
    process = start_stage(folder, "pipeline.train", "normal")
    query = "select max(step) from metrics where key = 'g'"
    found = watch("steps", process, lambda: steps * rows_of(folder, query), float("inf"))
    if process.wait():
        raise SystemExit("the training failed")
    return found


def search(folder: Path) -> Watched:
    """Hundreds of trials."""
    process = start_stage(folder, "src.tune", "--class", "normal", "--trials", str(TRIALS))
    query = "select count(*) from tags where key = 'tune.state'"
    found = watch("trials", process, lambda: rows_of(folder, query), float("inf"))
    if process.wait():
        raise SystemExit("the search failed")
    return found


def serving(folder: Path) -> Watched:
    """Thousands of requests of many clients."""
    port = free_port()
    process = start_stage(folder, "src.serve", "--class", "normal", "--port", str(port))
    address = f"http://127.0.0.1:{port}/invocations"

    def ask(number: int) -> None:
        rows = {"seed": [number] * IMAGES_PER_REQUEST, "index": list(range(IMAGES_PER_REQUEST))}
        body = json.dumps({"inputs": rows}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()

    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                ask(0)
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(1)
        with ThreadPoolExecutor(CLIENTS) as clients:
            work = [clients.submit(ask, number) for number in range(REQUESTS)]
            found = watch("requests", process, lambda: sum(one.done() for one in work), REQUESTS)
        for one in work:
            one.result()  # an error is raised here
    finally:
        process.terminate()
        process.wait()
    return found


def prepare(folder: Path) -> None:
    """A copy of the project, small, with data and a registered generator."""
    copy_project(folder)
    set_size(folder, IMAGES)
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    params["train"]["normal"].update(epochs=EPOCHS)
    params["fid"].update(extractor="pixels", dims=16, sample_size=50, iterations=3)
    params["privacy"].update(generated_images=50, baseline_images=100)
    params["utility"].update(image_size=32, training_steps=5, repeats=2)
    params["tune"].update(budget=320, budget_unit="images", max_images=50, evaluations=2)
    params["tune"]["space"] = {
        "loss": ["bce", "hinge"],
        "optimizer.generator.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    yaml.dump(params, folder / "params.yaml")
    for module in ("fetch", "preprocess"):
        run_stage(folder, f"pipeline.{module}")


def finish(folder: Path) -> None:
    """The other stages, which register what is served."""
    for module in ("train pneumonia", "fid_eval", "privacy_eval", "utility_eval", "report"):
        run_stage(folder, *f"pipeline.{module}".split())


def draw(found: Sequence[Watched]) -> Figure:
    """Memory and open files against what was done."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False)
    for column, watched in enumerate(found):
        shown: dict[str, Sequence[float]] = {
            "memory, MiB": watched.mib,
            "open files": watched.files,
        }
        for row, (name, values) in enumerate(shown.items()):
            place = axes[row][column]
            place.plot(watched.done, values, linewidth=1)
            place.set_ylim(0, 1.15 * max(values))
            place.set_xlabel(watched.work)
            if not column:
                place.set_ylabel(name)
            place.spines[["top", "right"]].set_visible(False)
    return figure


def show(result: dict[str, Any]) -> None:
    """Print the summaries."""
    for found in result["works"]:
        print(
            f"{found['done']:8.0f} {found['work']:9} MiB {found['mib']}, "
            f"{found['mib_per_thousand']} a thousand; open files {found['open_files']}"
        )


def run() -> None:
    """Watch all three."""
    with tempfile.TemporaryDirectory(prefix="long-use-") as name:
        folder = Path(name)
        prepare(folder)
        works = [training(folder)]
        finish(folder)
        works += [serving(folder), search(folder)]
    (FOLDER / "long_use.png").write_bytes(as_png(draw(works)))
    result = {
        "machine": machine(),
        "clients": CLIENTS,
        "images_per_request": IMAGES_PER_REQUEST,
        "works": [watched.summary() for watched in works],
    }
    record(FOLDER / "long_use.json", result, show)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    return report_errors(run)


if __name__ == "__main__":
    sys.exit(main())
