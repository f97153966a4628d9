"""What the networks run on."""

import os
from typing import Literal

import torch
from numpy.random import SeedSequence

from src.errors import UserError


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of that name, set up so that the same work gives the same bytes again.

    "auto" is CUDA where torch finds it, else the CPU with all the cores that this process may
    use.

    Raises:
        UserError: if "cuda" is asked for and torch finds none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "compute.device: torch finds no CUDA device; set it to auto, or install a CUDA build "
            "of torch (see PIP_ARGS in the README)"
        )
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # cuBLAS is repeatable only with a fixed workspace, which it reads when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # A guard against reading what was never written; it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def random_stream(device: torch.device, *key: int) -> torch.Generator:
    """An explicit source of randomness on ``device`` that ``key`` names.

    Streams of different keys are independent: the key is hashed into the seed as NumPy's
    SeedSequence does.
    """
    seed = int(SeedSequence(key).generate_state(1, "uint64")[0])
    return torch.Generator(device).manual_seed(seed)
