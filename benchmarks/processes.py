"""Training speed of several processes against one on this machine: `make bench-processes`.

The same batch is split among 1, 2 and 4 processes, which share the cores, so on one machine the
ratio shows what splitting costs: 1.0 is no cost at all. The table also has the size of the
gradients that the processes exchange at each step.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.train_throughput import SIZES, settings_of
from benchmarks.workspace import ROOT, compute_settings, free_port, machine
from src.common.devices import choose_compute
from src.common.files import write_json
from src.models.networks import count_parameters
from src.training.distributed import SINGLE_PROCESS, ProcessGroup
from src.training.trainer import Trainer

RESULT = ROOT / "reports" / "benchmarks" / "processes.json"
COUNTS = (1, 2, 4)


def measure(size: str, processes: int, seconds: float) -> dict[str, float]:
    """Measure the images a second of the whole group for ``seconds``, as one of its processes."""
    settings, image_size = settings_of(size)
    # Several processes refuse batch normalisation.
    generator = settings.generator.model_copy(update={"normalization": "none"})
    settings = settings.model_copy(update={"generator": generator})
    chosen = compute_settings(device="cpu")
    rank = int(os.environ.get("RANK", "0"))
    compute = choose_compute(chosen, rank, processes)
    if processes == 1:
        return _measure_steps(
            Trainer(settings, image_size, compute), settings.batch_size, seconds, SINGLE_PROCESS
        )
    with ProcessGroup.init(compute.device) as group:
        trainer = Trainer(settings, image_size, compute, group)
        return _measure_steps(trainer, settings.batch_size, seconds, group)


def _measure_steps(
    trainer: Trainer, batch_size: int, seconds: float, group: ProcessGroup
) -> dict[str, float]:
    side = trainer.generator.image_size
    real = torch.rand(group.local_batch_size(batch_size), 1, side, side) * 2 - 1
    for _ in range(2):
        trainer.step(real)
    steps, start = 0, time.perf_counter()
    # The first process's clock decides for all.
    while not group.any(group.is_first and time.perf_counter() - start > seconds):
        trainer.step(real)
        steps += 1
    rate = steps * batch_size / (time.perf_counter() - start)
    sent = 4 * (2 * count_parameters(trainer.discriminator) + count_parameters(trainer.generator))
    return {"images_per_second": rate, "mib_of_gradients": sent / 2**20}


def in_processes(size: str, processes: int, seconds: float) -> dict[str, float]:
    """Measure in new processes, and return what the first one measured."""
    port = str(free_port())
    command = [sys.executable, "-m", "benchmarks.processes", "--measure", size]
    command += [str(processes), str(seconds)]
    environment = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(processes)
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"error: {size} in {processes} processes failed; see above")
    values: dict[str, float] = json.loads(outputs[0])
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one process of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.measure:
        size, processes, seconds = arguments.measure
        print(json.dumps(measure(size, int(processes), float(seconds))))
        return 0
    result: dict[str, Any] = {"machine": machine()}
    print(f"{'':16}{'images/s':>10}{'ratio':>8}{'MiB a step':>12}")
    for size in SIZES:
        result[size] = {}
        for processes in COUNTS:
            found = in_processes(size, processes, arguments.seconds)
            one = result[size].get("1", found)["images_per_second"]
            found["ratio"] = found["images_per_second"] / one
            result[size][str(processes)] = found
            print(
                f"{size + ', ' + str(processes):16}{found['images_per_second']:10.1f}"
                f"{found['ratio']:8.2f}{found['mib_of_gradients']:12.1f}",
                flush=True,
            )
    write_json(RESULT, result)
    print(f"written to {RESULT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
