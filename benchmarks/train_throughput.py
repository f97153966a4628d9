"""Training speed against the plain loop and the machine's limit: `make bench [DEVICE=cuda]`.

Every measurement is a process of its own, so that peak memory is its own, and the variants take
turns, so that a machine that slows down slows all of them. The limit is the fastest product of
square matrices in the precision, measured in the same run. bfloat16 is measured where the device
computes in it; elsewhere the result says that it was not. On a GPU the peak is of the GPU's memory,
and a step is measured launched kernel by kernel as well.
"""

import argparse
import json
import math
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.plain import PlainDiscriminator, PlainGenerator, PlainTrainer
from benchmarks.workspace import ROOT, compute_settings, in_a_process, processor, record
from src.common.devices import (
    choose_compute,
    choose_device,
    computes_in_bf16,
    thread_count,
    wait_for,
)
from src.config.presets import preset_overrides
from src.config.settings import load_settings
from src.config.train import TrainSettings
from src.models.flops import layer_flops, update_flops
from src.training.trainer import Trainer

Device = Literal["cpu", "cuda"]
RESULTS = {
    "cpu": ROOT / "reports" / "benchmarks" / "train_throughput.json",
    "cuda": ROOT / "reports" / "benchmarks" / "train_throughput_cuda.json",
}
MODULE = "benchmarks.train_throughput"
SIZES = ("thesis", "spectral", "default")  # a preset, or the networks of params.yaml
PRECISIONS = ("fp32", "bf16")
GEMM_SIDES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192)}
# Precisions of a step that is not captured as a CUDA graph.
LAUNCHED = {"fp32_launched": "fp32", "bf16_launched": "bf16"}
WARMUP_STEPS = 5  # steps before those that are measured
STEPS_PER_TIMING = {"cpu": 1, "cuda": 10}  # reading the clock waits for the GPU


def settings_of(size: str) -> tuple[TrainSettings, int]:
    """Load the training settings of a size, and return them with the side of its images."""
    # The plain networks know no drawn exposure.
    learned = ["train.normal.generator.exposure=learned"]
    overrides = learned if size == "default" else preset_overrides(size, "normal")
    settings = load_settings(ROOT / "params.yaml", ["preprocess.image_size=64", *overrides])
    return settings.train.normal, settings.preprocess.image_size


def flops_table(settings: TrainSettings, image_size: int) -> dict[str, dict[str, float]]:
    """Count the nominal operations for one image: forward pass by layer, and step by update."""
    return layer_flops(settings, image_size) | {"updates": update_flops(settings, image_size)}


def measure_step(size: str, variant: str, seconds: float, device: Device) -> dict[str, float]:
    """Measure images a second and the peak memory in MiB of the process or its GPU.

    Args:
        size: one of ``SIZES``.
        variant: "plain", a precision, or a key of ``LAUNCHED``.
        seconds: how long to train.
        device: what to train on.
    """
    settings, image_size = settings_of(size)
    torch_device = torch.device(device)
    trainer: PlainTrainer | Trainer
    if variant == "plain":
        torch.manual_seed(0)
        torch.set_num_threads(thread_count())  # as the trainer's compute does
        trainer = PlainTrainer(
            settings,
            PlainGenerator(settings.generator, image_size).to(torch_device),
            PlainDiscriminator(settings.discriminator, image_size).to(torch_device),
        )
    else:
        precision = LAUNCHED.get(variant, variant)
        chosen = compute_settings(
            device=device, precision=precision, cuda_graphs=variant == precision
        )
        trainer = Trainer(settings, image_size, choose_compute(chosen))
    real = torch.rand(settings.batch_size, 1, image_size, image_size, device=torch_device) * 2 - 1
    for _ in range(WARMUP_STEPS):
        trainer.step(real)
    wait_for(torch_device)
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(STEPS_PER_TIMING[device]):
            trainer.step(real)
            steps += 1
        wait_for(torch_device)
    rate = steps * settings.batch_size / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device == "cuda":
        peak = torch.cuda.max_memory_reserved() / 2**20
    return {"images_per_second": rate, "peak_mib": peak}


def measure_gemm(precision: str, device: Device) -> dict[str, float]:
    """Measure the GFLOP/s of the fastest square matrix product: of libraries, sizes and repeats.

    torch multiplies float32 by MKL, which leaves half of an AMD processor unused; oneDNN, which
    computes the convolutions, does not.
    """
    torch_device = choose_device(device)
    # TF32 as for float32 convolutions, by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for side in GEMM_SIDES[device]:
        a, b = (torch.randn(side, side, device=torch_device).to(dtype) for _ in range(2))
        for product in (torch.mm, _onednn_product) if device == "cpu" else (torch.mm,):
            for _ in range(8):
                wait_for(torch_device)
                start = time.perf_counter()
                product(a, b)
                wait_for(torch_device)
                best = max(best, 2e-9 * side**3 / (time.perf_counter() - start))
    return {"gflops": best}


def _onednn_product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply ``a`` by the transpose of ``b`` with oneDNN."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return product


def compare(rounds: int, seconds: float, device: Device) -> dict[str, Any]:
    """Run all measurements in turns; return medians of the rates and maxima of the peaks."""
    measured = PRECISIONS if computes_in_bf16(torch.device(device)) else ("fp32",)
    launched = [name for name, kind in LAUNCHED.items() if device == "cuda" and kind in measured]
    variants = ("plain", *measured, *launched)
    steps: dict[tuple[str, str], list[dict[str, float]]] = {}
    peaks: dict[str, float] = dict.fromkeys(measured, 0.0)
    for number in range(1, rounds + 1):
        for precision in measured:
            peaks[precision] = max(
                peaks[precision], in_a_process(MODULE, "gemm", precision, device)["gflops"]
            )
        for size in SIZES:
            for variant in variants:
                print(f"round {number} of {rounds}: {size}, {variant}", flush=True)
                found = in_a_process(MODULE, size, variant, str(seconds), device)
                steps.setdefault((size, variant), []).append(found)
    result: dict[str, Any] = {
        "machine": {
            "processor": processor(),
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "not_measured": [kind for kind in PRECISIONS if kind not in measured],
        },
        "gemm_peak_gflops": peaks,
    }
    for size in SIZES:
        rate = {
            variant: statistics.median(run["images_per_second"] for run in steps[size, variant])
            for variant in variants
        }
        memory = {
            variant: max(run["peak_mib"] for run in steps[size, variant]) for variant in variants
        }
        work = sum(flops_table(*settings_of(size))["updates"].values()) / 1e9
        result[size] = {
            "gflop_per_image": work,
            "plain": {"images_per_second": rate["plain"], "peak_mib": memory["plain"]},
        }
        for variant in (*measured, *launched):
            result[size][variant] = {
                "images_per_second": rate[variant],
                "ratio": rate[variant] / rate["plain"],
                "gflops": rate[variant] * work,
                "share_of_peak": rate[variant] * work / peaks[LAUNCHED.get(variant, variant)],
                "peak_mib": memory[variant],
            }
    return result


def show(result: dict[str, Any]) -> None:
    """Print the tables of operations and of results."""
    for size in SIZES:
        settings, image_size = settings_of(size)
        print(f"\n{size}: nominal MFLOP for one image, batch {settings.batch_size}")
        for part, flops in flops_table(settings, image_size).items():
            print(f"  {part}: " + ", ".join(f"{k} {v / 1e6:.1f}" for k, v in flops.items()))
    print(f"\n{'':21}{'images/s':>10}{'ratio':>8}{'GFLOP/s':>10}{'of peak':>9}{'MiB':>8}")
    for size in SIZES:
        plain = result[size]["plain"]
        rate, memory = plain["images_per_second"], plain["peak_mib"]
        gflops = rate * result[size]["gflop_per_image"]
        share = gflops / result["gemm_peak_gflops"]["fp32"]
        print(f"{size + ' plain':21}{rate:10.1f}{1:8.2f}{gflops:10.0f}{share:9.1%}{memory:8.0f}")
        for variant in (name for name in (*PRECISIONS, *LAUNCHED) if name in result[size]):
            row = result[size][variant]
            print(
                f"{size + ' ' + variant:21}{row['images_per_second']:10.1f}{row['ratio']:8.2f}"
                f"{row['gflops']:10.0f}{row['share_of_peak']:9.1%}{row['peak_mib']:8.0f}"
            )
    peaks = ", ".join(f"{key} {value:.0f}" for key, value in result["gemm_peak_gflops"].items())
    print(f"peak of matrix products, GFLOP/s: {peaks}")
    for kind in result["machine"]["not_measured"]:
        print(f"{kind} was not measured: the device has no instructions for it")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one measurement of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.measure:
        what, variant, *rest, device = arguments.measure
        found = (
            measure_gemm(variant, device)
            if what == "gemm"
            else measure_step(what, variant, float(rest[0]), device)
        )
        print(json.dumps(found))
        return 0
    result = compare(arguments.rounds, arguments.seconds, arguments.device)
    assert all(math.isfinite(value) for value in result["gemm_peak_gflops"].values())
    record(RESULTS[arguments.device], result, show)
    return 0


if __name__ == "__main__":
    sys.exit(main())
