"""Whether memory and time for each image stay flat as the data set grows: `make bench-large`.

For several sizes a copy of the project runs its stages on so many phantoms: fetch, preprocess, one
epoch of each class, fid_eval. Then src.evaluate compares growing sets of images. Memory is what the
process and its workers hold of their own (anonymous pages, the highest sum in the run); pages of
mapped files, which the system may drop, do not count.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.workspace import (
    ROOT,
    anonymous_mib,
    copy_project,
    family,
    machine,
    record,
    start_stage,
)

RESULT = ROOT / "reports" / "benchmarks" / "large_data.json"
SIZES = (4_000, 16_000, 64_000)
EVALUATED = (2_000, 10_000)  # images of both sets that src.evaluate compares
STAGES = {
    "fetch": ("pipeline.fetch",),
    "preprocess": ("pipeline.preprocess",),
    "train_normal": ("pipeline.train", "normal"),
    "train_pneumonia": ("pipeline.train", "pneumonia"),
    "fid_eval": ("pipeline.fid_eval",),
}
TEST_SHARE = 0.1  # of the images
POLL = 0.05  # seconds between two looks at the memory


def set_size(folder: Path, images: int) -> None:
    """Parameters for a set of so many small phantoms and one epoch of everything."""
    yaml = YAML()
    file = folder / "params.yaml"
    params = yaml.load(file)
    test = round(images * TEST_SHARE / 2)
    params["data"]["phantom"].update(
        train_per_class=images // 2 - test, test_per_class=test, image_size=32
    )
    params["preprocess"].update(image_size=32)
    for name in ("normal", "pneumonia"):
        train = params["train"][name]
        train["generator"].update(base_channels=16, channels=[16, 8], kernels=[4, 4])
        train["generator"].update(strides=[2, 2])
        train["discriminator"].update(channels=[8, 16], kernels=[4, 4], strides=[2, 2])
        train.update(batch_size=32, epochs=1)
    params["fid"]["classifier"].update(epochs=1)
    yaml.dump(params, file)


def run_stage(folder: Path, module: Sequence[str]) -> tuple[float, float]:
    """Seconds that a stage or command takes, and the most MiB that it and its workers hold."""
    start = time.perf_counter()
    stage = start_stage(folder, *module)
    peak = 0.0
    while stage.poll() is None:
        peak = max(peak, sum(anonymous_mib(pid) for pid in family(stage.pid)))
        time.sleep(POLL)
    if stage.returncode:
        raise SystemExit(f"{module} ended with status {stage.returncode}")
    return time.perf_counter() - start, peak


def measure(sizes: Sequence[int]) -> dict[str, Any]:
    """All stages at all sizes; lines through seconds and MiB against images."""
    rows: dict[str, list[dict[str, float]]] = {stage: [] for stage in STAGES}
    for images in sizes:
        with tempfile.TemporaryDirectory(prefix="large-data-") as name:
            folder = Path(name)
            copy_project(folder)
            set_size(folder, images)
            for stage, module in STAGES.items():
                seconds, peak = run_stage(folder, module)
                rows[stage].append({"images": images, "seconds": seconds, "peak_mib": peak})
                print(f"{images:8} images, {stage:16} {seconds:8.1f} s {peak:8.0f} MiB", flush=True)
    stages = {}
    for stage, found in rows.items():
        count = [row["images"] for row in found]
        time_line = np.polyfit(count, [row["seconds"] for row in found], 1)
        memory_line = np.polyfit(count, [row["peak_mib"] for row in found], 1)
        stages[stage] = {
            "runs": found,
            "ms_per_image": 1e3 * float(time_line[0]),
            "seconds_to_start": float(time_line[1]),
            "mib_per_100000_images": 1e5 * float(memory_line[0]),
            "mib_to_start": float(memory_line[1]),
        }
    return {
        "machine": machine(),
        "stages": stages,
        "evaluation": [evaluate(images) for images in EVALUATED],
    }


def evaluate(images: int) -> dict[str, float]:
    """Comparison of two sets of so many images of 64 pixels by grey values."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="large-data-") as name:
        files = [Path(name) / "real.npy", Path(name) / "generated.npy"]
        for brightness, file in zip((180, 200), files, strict=True):
            coarse = rng.integers(0, brightness, (images, 8, 8), dtype=np.uint8)
            np.save(file, coarse.repeat(8, axis=1).repeat(8, axis=2))
        module = ("src.evaluate", *map(str, files), "--features", "pixels", "--json")
        seconds, peak = run_stage(ROOT, module)
    print(f"{images:8} images, src.evaluate     {seconds:8.1f} s {peak:8.0f} MiB", flush=True)
    return {"images": images, "seconds": seconds, "peak_mib": peak}


def show(result: dict[str, Any]) -> None:
    """Print the slopes."""
    print(f"\n{'':18}{'ms an image':>12}{'MiB to start':>14}{'MiB per 100,000 images':>24}")
    for stage, found in result["stages"].items():
        print(
            f"{stage:18}{found['ms_per_image']:12.2f}{found['mib_to_start']:14.0f}"
            f"{found['mib_per_100000_images']:24.1f}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="images of each set, two or more"
    )
    arguments = parser.parse_args(argv)
    result = measure(arguments.sizes)
    record(RESULT, result, show)
    return 0


if __name__ == "__main__":
    sys.exit(main())
