"""Explicit streams of random numbers, each named by a key."""

import torch
from numpy.random import SeedSequence


def random_stream(device: torch.device, *key: int) -> torch.Generator:
    """An explicit source of randomness on ``device`` that ``key`` names.

    Streams of different keys of one length are independent: the key is hashed into the seed as
    NumPy's SeedSequence does.
    """
    seed = int(SeedSequence(key).generate_state(1, "uint64")[0])
    return torch.Generator(device).manual_seed(seed)
