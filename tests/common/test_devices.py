from typing import Any

import pytest
import torch

from src.common.devices import Compute, choose_compute
from src.common.errors import UserError
from src.common.rng import random_stream
from src.config.compute import ComputeSettings


def compute_settings(**changes: Any) -> ComputeSettings:
    values = {
        "device": "cpu",
        "precision": "fp32",
        "memory_format": "auto",
        "compile": False,
        "cuda_graphs": True,
    }
    return ComputeSettings(**(values | changes))


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bf16})
    chosen = choose_compute(compute_settings(precision="auto"))
    assert chosen.precision == expected
    assert chosen.memory_format == "channels_last"


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_products_are_computed_in_the_precision(precision: str, expected: torch.dtype) -> None:
    with choose_compute(compute_settings(precision=precision)).autocast():
        assert torch.nn.Linear(3, 2)(torch.ones(1, 3)).dtype == expected


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_weights_are_laid_out_as_asked(layout: str) -> None:
    network = choose_compute(compute_settings(memory_format=layout)).place(torch.nn.Conv2d(4, 8, 3))
    last = network.weight.is_contiguous(memory_format=torch.channels_last)
    assert last == (layout == "channels_last")


def test_a_missing_cuda_device_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"compute\.device: .* set it to auto"):
        choose_compute(compute_settings(device="cuda"))


def test_processes_on_one_host_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for processes in (1, 3, 16):
        choose_compute(compute_settings(), 0, processes)
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
        choose_compute(compute_settings(device="cuda"), 0, 2)


def test_what_was_chosen_is_described() -> None:
    described = choose_compute(compute_settings(precision="bf16")).describe()
    assert described["precision"] == "bf16"
    assert described["threads"] == str(torch.get_num_threads())


def test_streams_of_different_keys_differ_and_the_same_key_repeats() -> None:
    def draw(*key: int) -> float:
        return float(torch.rand(1, generator=random_stream(torch.device("cpu"), *key)))

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(1, 2), draw(2, 1), draw(1, 3)}) == 3
