"""Speed of the distances and of the FID network against the plain way: `make bench-evaluation`.

The plain way is that of the published code: covariances and scipy's matrix square root, and the
network as it was trained, in torch's default layout. Every measurement is a process of its own, so
that peak memory is its own; plain and ours take turns. Matrix square roots take minutes.
"""

import argparse
import itertools
import json
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.plain_evaluation import Matrix, plain_frechet, plain_inception
from benchmarks.workspace import ROOT, in_a_process, processor, record
from src.common.devices import choose_device
from src.metrics.features import extract_features
from src.metrics.frechet import FeatureSet, frechet_distance
from src.metrics.inception import InceptionExtractor, optimize_for_inference

MODULE = "benchmarks.evaluation"
RESULT = ROOT / "reports" / "benchmarks" / "evaluation.json"
DRAWS, SMALL = 100, 100  # of the protocol, whose four sets make six pairs
FULL = ((1341, 234), (3875, 390))  # Kermany's train against test, NORMAL and PNEUMONIA
WIDTHS = (768, 2048)
DIMS, BATCH, SIZE = 768, 50, 64  # of the network's measurement
NETWORKS = ("plain", "ours", "bf16")


def sets(sizes: Sequence[int], width: int, seed: int) -> list[Matrix]:
    """Correlated positive features, as a network's are, (n, width) for each n."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((width, width)) * np.geomspace(1, 1e-3, width) / np.sqrt(width)
    return [np.abs(rng.standard_normal((n, width)) @ mix + 0.3) for n in sizes]


def measure_protocol(width: int, way: str) -> dict[str, float]:
    """Seconds for the 600 distances of the protocol; the plain way does one and is multiplied."""
    four = sets([SMALL] * 4, width, 0)
    start = time.perf_counter()
    if way == "plain":
        plain_frechet(four[0], four[1])
        return {"seconds": 6 * DRAWS * (time.perf_counter() - start)}
    for _ in range(DRAWS):
        known = [FeatureSet(part) for part in four]  # with nothing computed yet
        for first, second in itertools.combinations(known, 2):
            frechet_distance(first, second)
    return {"seconds": time.perf_counter() - start}


def measure_full(n: int, m: int, width: int, way: str) -> dict[str, float]:
    """Seconds for one distance of whole sets, and the distance."""
    x, y = sets((n, m), width, 0)
    start = time.perf_counter()
    if way == "plain":
        value = plain_frechet(x, y)
    else:
        value = frechet_distance(FeatureSet(x), FeatureSet(y))
    return {"seconds": time.perf_counter() - start, "value": value}


def new_network() -> InceptionExtractor:
    """The FID network with weights that keep the scale of what passes through."""
    torch.manual_seed(0)
    network = InceptionExtractor(DIMS).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return network


@torch.no_grad()
def measure_network(way: str) -> dict[str, float]:
    """Images a second, and how far the features lie from the plain ones."""
    device = choose_device("cpu")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2 * BATCH, SIZE, SIZE), dtype=np.uint8)
    weights = new_network().state_dict()
    expected = plain_inception(weights, torch.from_numpy(images[:BATCH]), DIMS).numpy()
    network = optimize_for_inference(new_network())

    def run() -> Any:
        if way == "plain":
            parts = (torch.from_numpy(part) for part in np.split(images, 2))
            return np.concatenate([plain_inception(weights, part, DIMS).numpy() for part in parts])
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "bf16"):
            return extract_features(network, images, BATCH, device)

    run()
    start = time.perf_counter()
    found = run()
    seconds = time.perf_counter() - start
    gap = np.linalg.norm(found[:BATCH] - expected) / np.linalg.norm(expected)
    x, y = (FeatureSet(part) for part in np.split(found.astype(np.float64), 2))
    return {
        "images_per_second": len(images) / seconds,
        "relative_difference": float(gap),
        "frechet": frechet_distance(x, y),
    }


def measure(what: str, *rest: str) -> dict[str, float]:
    """One measurement, with the peak memory of this process."""
    if what == "protocol":
        found = measure_protocol(int(rest[0]), rest[1])
    elif what == "full":
        found = measure_full(int(rest[0]), int(rest[1]), int(rest[2]), rest[3])
    else:
        found = measure_network(rest[0])
    return found | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def compare() -> dict[str, Any]:
    """All measurements."""
    result: dict[str, Any] = {"machine": {"processor": processor()}, "protocol": {}, "full": {}}

    def both(*what: str) -> dict[str, Any]:
        print(" ".join(what), flush=True)
        ours = in_a_process(MODULE, *what, "ours")
        plain = in_a_process(MODULE, *what, "plain")
        ratio = plain["seconds"] / ours["seconds"]
        return {"ours": ours, "plain": plain, "ratio": ratio}

    for width in WIDTHS:
        result["protocol"][str(width)] = both("protocol", str(width))
    for n, m in FULL:
        result["full"][f"{n}x{m}"] = both("full", str(n), str(m), str(WIDTHS[-1]))
    networks = {way: in_a_process(MODULE, "network", way) for way in NETWORKS}
    plain = networks["plain"]["images_per_second"]
    result["network"] = networks | {
        "ratio": networks["ours"]["images_per_second"] / plain,
        "bf16_ratio": networks["bf16"]["images_per_second"] / plain,
    }
    return result


def show(result: dict[str, Any]) -> None:
    """The result as a table."""
    print(f"{'':34}{'plain':>10}{'ours':>10}{'ratio':>8}{'MiB':>8}{'MiB ours':>10}")
    for width, row in result["protocol"].items():
        _show_seconds(f"600 distances, 100 x 100 x {width}", row)
    for sizes, row in result["full"].items():
        _show_seconds(f"one distance, {sizes} x {WIDTHS[-1]}", row)
    network = result["network"]
    for way in ("ours", "bf16"):
        rate = network[way]["images_per_second"]
        print(
            f"{'images/s of the network, ' + way:34}{network['plain']['images_per_second']:10.1f}"
            f"{rate:10.1f}{rate / network['plain']['images_per_second']:8.1f}"
            f"{network['plain']['peak_mib']:8.0f}{network[way]['peak_mib']:10.0f}; features differ "
            f"by {network[way]['relative_difference']:.1e}, a distance by "
            f"{abs(network[way]['frechet'] / network['plain']['frechet'] - 1):.1e}"
        )


def _show_seconds(name: str, row: dict[str, Any]) -> None:
    plain, ours = row["plain"], row["ours"]
    print(
        f"{name:34}{plain['seconds']:9.2f}s{ours['seconds']:9.2f}s{row['ratio']:8.0f}"
        f"{plain['peak_mib']:8.0f}{ours['peak_mib']:10.0f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one measurement of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return 0
    record(RESULT, compare(), show)
    return 0


if __name__ == "__main__":
    sys.exit(main())
