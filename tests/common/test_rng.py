"""Streams of random numbers: one table, no two alike, and none of a user's images."""

from itertools import product

import numpy as np
import pytest
import torch

from src.common.rng import Stream, integer_seed, numpy_stream, torch_stream
from src.models.sampling import draw_latents

CPU = torch.device("cpu")


def test_no_two_purposes_have_one_number() -> None:
    numbers = [stream.value[0] for stream in Stream]
    assert len(set(numbers)) == len(numbers)
    assert len(Stream.__members__) == len(list(Stream))  # an alias would be no member of its own


def test_no_two_streams_give_the_same_numbers() -> None:
    seen: dict[bytes, tuple[object, ...]] = {}
    for stream in Stream:
        for seed, *indices in product((0, 1, 3, 2**32 - 1), *[(0, 1, 2)] * len(stream.value[1])):
            drawn = numpy_stream(stream, seed, *indices).bytes(16)
            key = (stream, seed, *indices)
            assert drawn not in seen, (key, seen[drawn])
            seen[drawn] = key


def test_no_stream_is_that_of_an_image_that_a_user_draws() -> None:
    numbers = [*range(70), 2**32, 2**62]
    users = {
        np.random.default_rng([seed, index]).bytes(16) for seed, index in product(numbers, numbers)
    }
    for stream in Stream:
        indices = [0] * len(stream.value[1])
        for seed in (0, 1, 2, 10, 36):
            assert numpy_stream(stream, seed, *indices).bytes(16) not in users


def test_a_stream_comes_again_and_torch_and_numpy_are_seeded_alike() -> None:
    first, again = (numpy_stream(Stream.FLOOR, 3, 115).random(4) for _ in range(2))
    assert (first == again).all()
    one = torch.rand(4, generator=torch_stream(CPU, Stream.TRAIN_NOISE, 5))
    two = torch.rand(4, generator=torch_stream(CPU, Stream.TRAIN_NOISE, 5))
    assert torch.equal(one, two)
    assert not torch.equal(one, torch.rand(4, generator=torch_stream(CPU, Stream.TRAIN_NOISE, 6)))


def test_an_integer_seed_is_one_that_the_sampler_takes() -> None:
    seed = integer_seed(Stream.SCORE_GENERATED, 3, 1)
    assert 0 <= seed < 2**63
    assert draw_latents([seed], [0], 4).shape == (1, 4)


def test_indices_must_be_those_of_the_table() -> None:
    with pytest.raises(ValueError, match="FLOOR is indexed by"):
        numpy_stream(Stream.FLOOR, 3)
