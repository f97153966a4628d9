import io

import numpy as np
import pytest
from PIL import Image

from src.models.interpolation import FORMATS, encode_animation, interpolate_loop


def test_a_walk_passes_its_stops_and_keeps_its_length() -> None:
    stops = np.random.default_rng(1).standard_normal((3, 100)).astype(np.float32)
    way = interpolate_loop(stops, 8)
    assert way.shape == (24, 100)
    np.testing.assert_allclose(way[::8], stops, atol=1e-5)
    lengths, ends = np.linalg.norm(way, axis=1), np.linalg.norm(stops, axis=1)
    # A straight way would be 30 % shorter in the middle.
    assert lengths.min() >= ends.min() - 1e-4
    assert lengths.max() <= ends.max() + 1e-4
    steps = np.linalg.norm(np.diff(way[:9], axis=0), axis=1)
    assert steps.std() < 0.1 * steps.mean()


def test_stops_that_are_equal_or_nothing_do_no_harm() -> None:
    stops = np.stack([np.ones(4), np.ones(4), np.zeros(4)]).astype(np.float32)
    way = interpolate_loop(stops, 4)
    assert np.isfinite(way).all()
    np.testing.assert_allclose(way[:5], 1, atol=1e-6)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_animation_shows_every_frame_and_says_what_it_is(suffix: str) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    content = encode_animation(frames, suffix, {"synthetic": "yes", "class": "NORMAL"})
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 5  # type: ignore[attr-defined]
        for number, frame in enumerate(frames):
            image.seek(number)
            assert np.array_equal(np.asarray(image.convert("L")), frame)
    assert b"synthetic" in content
    assert b"NORMAL" in content
