"""What the networks run on, and how."""

import ctypes
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import torch

from ..config.compute import ComputeSettings
from .errors import UserError
from .processes import available_cores

Network = TypeVar("Network", bound=torch.nn.Module)
# glibc's mallopt parameters, see <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Compute:
    """A device and the ways of training on it."""

    device: torch.device
    precision: Literal["fp32", "bf16"]
    memory_format: Literal["contiguous", "channels_last"]
    compile: bool
    cuda_graphs: bool = True
    threads: int = 1  # of all processes that train together on this host

    @property
    def records(self) -> bool:
        """Whether a training step is recorded as a CUDA graph; its numbers do not depend on it.

        One of compiled networks is not, since nobody has tried that.
        """
        return self.cuda_graphs and self.device.type == "cuda" and not self.compile

    def autocast(self) -> AbstractContextManager[None]:
        """Within it, products and convolutions of float32 are computed in ``precision``.

        Parameters, losses and optimizers stay in float32.
        """
        context = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=True
        )
        return cast(AbstractContextManager[None], context)

    def place(self, network: Network) -> Network:
        """``network`` on the device, its weights in the memory format."""
        layout = {
            "contiguous": torch.contiguous_format,
            "channels_last": torch.channels_last,
        }[self.memory_format]
        return network.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]

    def describe(self) -> dict[str, str]:
        """What was chosen, as texts."""
        device = str(self.device)
        if self.device.type == "cuda":
            device += f" ({torch.cuda.get_device_name(self.device)})"
        return {
            "device": device,
            "precision": self.precision,
            "memory_format": self.memory_format,
            "compile": str(self.compile).lower(),
            "cuda_graphs": str(self.records).lower(),
            "threads": str(torch.get_num_threads()),
        }


def choose_compute(settings: ComputeSettings, local_rank: int = 0, local_size: int = 1) -> Compute:
    """The device and ways that the settings name.

    "auto" is bfloat16 where the device computes in it, since it is about twice as fast there, and
    channels_last, which oneDNN and tensor cores work in.

    Args:
        settings: the compute section.
        local_rank: this process's number among those that train together on this host.
        local_size: how many they are; they share the cores, and each has a GPU of its own.

    Raises:
        UserError: if the device is not there or cannot do what is asked.
    """
    device = choose_device(settings.device, settings.threads, local_rank, local_size)
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if computes_in_bf16(device) else "fp32"
    elif precision == "bf16" and device.type == "cuda" and not computes_in_bf16(device):
        raise UserError("compute.precision: this CUDA device has no bfloat16; set auto or fp32")
    if settings.compile:
        torch.use_deterministic_algorithms(True)
    layout = settings.memory_format
    return Compute(
        device,
        precision,
        "channels_last" if layout == "auto" else layout,
        settings.compile,
        settings.cuda_graphs,
        thread_count(settings.threads),  # however many processes share them
    )


def choose_device(
    name: Literal["auto", "cpu", "cuda"],
    threads: Literal["auto"] | int = "auto",
    local_rank: int = 0,
    local_size: int = 1,
) -> torch.device:
    """Set up the device of that name so that the same work gives the same bytes again.

    Args:
        name: "auto" is CUDA where torch finds it, else the CPU.
        threads: of this process, see ``thread_count``.
        local_rank: this process's number among those that train together on this host.
        local_size: how many they are; they share the cores, and each has a GPU of its own.

    Raises:
        UserError: if "cuda" is asked for and torch finds none, or fewer than there are processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "compute.device: torch finds no CUDA device; set it to auto, or install a CUDA build "
            "of torch (see PIP_ARGS in the README)"
        )
    _keep_freed_memory()
    torch.set_num_threads(thread_count(threads, local_size))
    # cuBLAS is repeatable only with a fixed workspace, which it reads when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms, which imports torch's compiler as well, for two seconds.
    torch.set_deterministic_debug_mode("error")
    # A guard against reading what was never written; it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_size > 1:
        if torch.cuda.device_count() < local_size:
            raise UserError(
                f"train.processes: {local_size} processes need a CUDA device each, and torch finds "
                f"{torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        return device
    return torch.device(name)


def thread_count(threads: Literal["auto"] | int = "auto", local_size: int = 1) -> int:
    """Return the number of threads that a process computes with on the CPU.

    Args:
        threads: a number, which counts as it is; or "auto", the least of OMP_NUM_THREADS, the
            cores that the process may use and its container's CPU quota.
        local_size: processes that train together on this host. They share what "auto" gives, but
            OMP_NUM_THREADS, which torchrun sets to 1 for them, does not count.

    Raises:
        UserError: if OMP_NUM_THREADS is no number.
    """
    if threads != "auto":
        return threads
    limits = [available_cores()]
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if given and local_size == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        if not given.isdecimal() or int(given) < 1:
            raise UserError(f"OMP_NUM_THREADS: {given} is no number of threads; unset it")
        limits.append(int(given))
    return max(min(limits) // local_size, 1)


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory, instead of giving large blocks back to the system.

    A training step frees and takes the same gigabyte again; each time the system would fill it
    with zeros, page by page, which took a quarter of the time. Other C libraries have no such
    function and are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def wait_for(device: torch.device) -> None:
    """Let the device finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
