"""Settings of the device and of how training uses it."""

from typing import Literal

from .base import Count, Section


class ComputeSettings(Section):
    """The device, and how training uses it; ``auto`` is the fastest safe choice for it."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Literal["auto"] | Count
    precision: Literal["auto", "fp32", "bf16"]
    memory_format: Literal["auto", "contiguous", "channels_last"]
    compile: bool
    cuda_graphs: bool
