from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.workspace import compute_settings
from src.common import processes
from src.common.devices import Compute, choose_compute, choose_device, thread_count
from src.common.errors import UserError
from src.config.compute import ComputeSettings


def cpu_settings(**changes: Any) -> ComputeSettings:
    return compute_settings(**({"device": "cpu", "precision": "fp32"} | changes))


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bf16})
    chosen = choose_compute(cpu_settings(precision="auto"))
    assert chosen.precision == expected
    assert chosen.memory_format == "channels_last"


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_products_are_computed_in_the_precision(precision: str, expected: torch.dtype) -> None:
    with choose_compute(cpu_settings(precision=precision)).autocast():
        assert torch.nn.Linear(3, 2)(torch.ones(1, 3)).dtype == expected


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_weights_are_laid_out_as_asked(layout: str) -> None:
    network = choose_compute(cpu_settings(memory_format=layout)).place(torch.nn.Conv2d(4, 8, 3))
    last = network.weight.is_contiguous(memory_format=torch.channels_last)
    assert last == (layout == "channels_last")


def test_a_missing_cuda_device_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"compute\.device: .* set it to auto"):
        choose_compute(cpu_settings(device="cuda"))


def test_processes_on_one_host_share_its_cores(machine: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    machine.setattr(torch, "set_num_threads", threads.append)
    for size in (1, 3, 16):
        choose_compute(cpu_settings(), 0, size)
    assert threads == [8, 2, 1]


@pytest.mark.parametrize(
    ("device", "wanted", "compiled", "records"),
    [
        ("cuda", True, False, True),
        ("cuda", False, False, False),
        ("cuda", True, True, False),
        ("cpu", True, False, False),
    ],
)
def test_only_a_gpu_records_steps_unless_told_or_compiled(
    device: str, wanted: bool, compiled: bool, records: bool
) -> None:
    compute = Compute(torch.device(device), "fp32", "channels_last", compiled, wanted)
    assert compute.records is records


def test_more_processes_than_cuda_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"train\.processes: 2 processes need a CUDA device each"):
        choose_compute(cpu_settings(device="cuda"), 0, 2)


def test_what_was_chosen_is_described() -> None:
    described = choose_compute(cpu_settings(precision="bf16")).describe()
    assert described["precision"] == "bf16"
    assert described["threads"] == str(torch.get_num_threads())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with eight cores and no limits."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(processes, "_cpu_quota", lambda root: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    return monkeypatch


def test_threads_are_the_least_of_affinity_variable_and_quota(machine: pytest.MonkeyPatch) -> None:
    assert thread_count() == 8
    machine.setenv("OMP_NUM_THREADS", "5")
    assert thread_count() == 5
    machine.setattr(processes, "_cpu_quota", lambda root: 2.5)
    assert thread_count() == 2
    machine.setattr(processes, "_cpu_quota", lambda root: 0.3)
    assert thread_count() == 1
    assert thread_count(6) == 6  # a number overrules them


@pytest.mark.parametrize(("given", "threads"), [(None, 8), ("1", 1), ("3,2", 3), ("99", 8)])
def test_torch_computes_with_as_many_threads_as_the_variable_says(
    machine: pytest.MonkeyPatch, given: str | None, threads: int
) -> None:
    if given is not None:
        machine.setenv("OMP_NUM_THREADS", given)
    set_to: list[int] = []
    machine.setattr(torch, "set_num_threads", set_to.append)
    assert choose_compute(cpu_settings()).threads == threads
    choose_device("cpu")
    assert set_to == [threads, threads]


def test_processes_of_a_group_share_and_torchruns_variable_does_not_count(
    machine: pytest.MonkeyPatch,
) -> None:
    machine.setenv("OMP_NUM_THREADS", "1")
    machine.setenv("TORCHELASTIC_RUN_ID", "x")
    assert [thread_count("auto", size) for size in (1, 2, 3, 16)] == [8, 4, 2, 1]
    assert thread_count(3, 2) == 3


def test_a_variable_that_is_no_number_is_refused(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(UserError, match="OMP_NUM_THREADS: many is no number of threads"):
        thread_count()


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read_from_its_control_group(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processes._cpu_quota(tmp_path) == cores
