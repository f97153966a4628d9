"""The table of all streams of random numbers, of which no two are alike.

A stream is named by its purpose, by the seed that its section of params.yaml gives, and by the
indices that its purpose takes. The key is hashed as NumPy recommends for independent streams: the
seed is a SeedSequence's entropy, purpose and indices its spawn key, so that no stream meets those
of the images that users draw (``models.sampling``), which have no spawn key.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # phantoms need no torch
    import torch


class Stream(Enum):
    """Purposes of random numbers: a number, which is never given again, and what indexes it."""

    PHANTOM_PATIENTS = (1, ("split", "class"))
    PHANTOM_IMAGES = (2, ("split", "class", "patient"))

    SOURCE_SPLIT = (3, ("classes",))
    SOURCE_NUMBERS = (4, ())

    TRAIN_WEIGHTS = (10, ())
    TRAIN_SHUFFLE = (11, ())
    TRAIN_NOISE = (12, ())
    TRAIN_DROPOUT = (13, ())
    TRAIN_AUGMENTATION = (14, ())
    TRAIN_PENALTY = (15, ())
    TRAIN_SAMPLES = (16, ())

    CLASSIFIER_WEIGHTS = (20, ())
    CLASSIFIER_SHUFFLE = (21, ())
    CLASSIFIER_AUGMENTATION = (22, ())
    CLASSIFIER_HOLD_OUT = (23, ("class",))

    PROTOCOL_REAL = (30, ("iteration",))
    PROTOCOL_GENERATED = (31, ("class", "iteration"))
    SCORE_REAL = (32, ("split", "class"))
    SCORE_GENERATED = (33, ("class",))
    SCORE_INTERVAL = (34, ())
    SCORE_EXTRAPOLATION = (35, ())
    FLOOR = (36, ("size",))
    FLOOR_GENERATED = (37, ("size",))
    REFERENCE = (38, ("size",))
    HYPOTHESIS = (39, ())

    COPY_TEST = (40, ("class",))
    COPY_TEST_GENERATED = (41, ("class",))
    COPY_TEST_CELLS = (42, ("cells",))
    MEMBERSHIP_HALVES = (43, ("class",))
    MEMBERSHIP_GENERATED = (44, ("class", "half"))
    MEMBERSHIP_IMAGES = (45, ("class",))
    MEMBERSHIP_INTERVAL = (46, ("class",))

    UTILITY_VALIDATION = (50, ("class",))
    UTILITY_SUBSET = (51, ("class", "repeat"))
    UTILITY_HALVES = (52, ())
    UTILITY_GENERATED = (53, ("class", "purpose"))
    UTILITY_WEIGHTS = (54, ("network", "repeat"))
    UTILITY_BATCHES = (55, ("network", "repeat"))
    UTILITY_AUGMENTATION = (56, ("network", "repeat"))
    UTILITY_DRAW = (57, ("experiment", "level", "repeat"))

    TUNE_HOLD_OUT = (60, ("class",))
    TUNE_FLOOR = (61, ("class",))
    TUNE_GENERATED = (62, ())
    TUNE_SAMPLER = (63, ("trial",))
    TUNE_INTERVAL = (64, ())

    VARIETY_REAL = (70, ("class",))
    VARIETY_GENERATED = (71, ("class",))
    VARIETY_SUBSET = (72, ())
    VARIETY_HALVES = (73, ())
    VARIETY_PAIRS = (74, ())


def numpy_stream(stream: Stream, seed: int, *indices: int) -> np.random.Generator:
    """Make NumPy's generator of a stream.

    Args:
        stream: its purpose.
        seed: of the section of params.yaml that it belongs to, 0 or more.
        indices: those that ``stream`` names, each 0 or more.
    """
    return np.random.default_rng(_sequence(stream, seed, indices))


def torch_stream(device: torch.device, stream: Stream, seed: int, *indices: int) -> torch.Generator:
    """Make torch's generator of a stream on ``device``; arguments as for ``numpy_stream``."""
    import torch

    return torch.Generator(device).manual_seed(integer_seed(stream, seed, *indices))


def integer_seed(stream: Stream, seed: int, *indices: int) -> int:
    """Return a number below 2^63 for what takes a number as its seed; as ``numpy_stream``."""
    return int(_sequence(stream, seed, indices).generate_state(1, "uint64")[0] >> 1)


def _sequence(stream: Stream, seed: int, indices: tuple[int, ...]) -> np.random.SeedSequence:
    number, names = stream.value
    if len(indices) != len(names):
        raise ValueError(f"{stream.name} is indexed by {names}, not by {indices}")
    return np.random.SeedSequence(seed, spawn_key=(number, *indices))
