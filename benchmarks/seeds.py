"""How far the scores of the demo move with the seeds of the trainings: `make bench-seeds`.

In a copy of the project the default data are made once; then, for each seed, both classes are
trained and judged. The judge (the classifier, the draws) stays the same. Writes seeds.json to
reports/benchmarks.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.workspace import ROOT, copy_project, machine, record, run_stage
from src.data.classes import CLASSES

RESULT = ROOT / "reports" / "benchmarks" / "seeds.json"
SCORES = ("frechet", "kid", "precision", "recall", "density", "coverage")


def set_seed(folder: Path, seed: int) -> None:
    """Let both classes train from a seed of their own."""
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    params["train"]["normal"]["seed"] = 2 * seed
    params["train"]["pneumonia"]["seed"] = 2 * seed + 1
    yaml.dump(params, folder / "params.yaml")


def scores_of(fid: dict[str, Any]) -> dict[str, float]:
    """The numbers of a judgement, by name."""
    found = {f"distance {pair}": values["mean"] for pair, values in fid["pairs"].items()}
    found["share of draws in which it holds"] = fid["verdict"]["share"]
    for label in CLASSES:
        for name in SCORES:
            if name in fid["scores"][label]:
                found[f"{name} {label}"] = fid["scores"][label][name]["value"]
    return found


def measure(seeds: int) -> dict[str, Any]:
    """The scores of each seed, their means and standard deviations."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="seeds-") as name:
        folder = Path(name)
        copy_project(folder)
        for module in ("pipeline.fetch", "pipeline.preprocess"):
            run_stage(folder, module)
        for seed in range(1, seeds + 1):
            set_seed(folder, seed)
            for label in CLASSES:
                run_stage(folder, "pipeline.train", label.lower())
            run_stage(folder, "pipeline.fid_eval")
            found = scores_of(json.loads((folder / "reports/metrics/fid.json").read_text()))
            rows.append(found)
            same = [round(found[f"distance {pair}"], 3) for pair in ("RNxFN", "RPxFP")]
            print(f"seed {seed}: distance to real images of the class {same}", flush=True)
    spread = {
        key: {
            "mean": float(np.mean([row[key] for row in rows])),
            "std": float(np.std([row[key] for row in rows], ddof=1)),
            "values": [row[key] for row in rows],
        }
        for key in rows[0]
    }
    return {
        "machine": machine(),
        "seeds": seeds,
        "scores": spread,
    }


def show(result: dict[str, Any]) -> None:
    """Print mean and spread of each score."""
    for key, found in result["scores"].items():
        values = ", ".join(f"{value:.3g}" for value in found["values"])
        print(f"{key:36} {found['mean']:8.3g} ({found['std']:.2g})   {values}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many, two or more")
    arguments = parser.parse_args(argv)
    record(RESULT, measure(arguments.seeds), show)
    return 0


if __name__ == "__main__":
    sys.exit(main())
