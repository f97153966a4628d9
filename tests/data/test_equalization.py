import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.exposure import equalize_adapthist

from src.config.registry import EQUALIZATIONS, load
from src.data.decode import decode_grey
from src.data.image_files import read_images

NAMES = tuple(EQUALIZATIONS)
CONTRASTING = [name for name in NAMES if name != "none"]


def equalized(pixels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = load(EQUALIZATIONS[name])(pixels)
    assert (found.dtype, found.shape) == (np.uint8, pixels.shape)
    return found


def flat_tiles(side: int) -> NDArray[np.uint8]:
    """An image of 8 x 8 tiles, each of which has every grey equally often, in its own order."""
    rng = np.random.default_rng(5)
    tile = side // 8
    greys = np.repeat(np.arange(256, dtype=np.uint8), tile**2 // 256)
    tiles = [[rng.permutation(greys).reshape(tile, tile) for _ in range(8)] for _ in range(8)]
    return np.block(tiles)


@pytest.mark.parametrize("side", [128, 256])
@pytest.mark.parametrize("dark", [0, 20000])
def test_clahe_only_stretches_where_the_histograms_are_flat_already(side: int, dark: int) -> None:
    """The closed form of its map; of 16 bits it stretches values that 8 bits would merge."""
    tiles = flat_tiles(side)
    pixels = tiles if dark == 0 else (dark + tiles.astype(np.uint16)).astype(np.uint16)
    difference = equalized(pixels, "clahe").astype(int) - tiles
    assert np.abs(difference).max() <= 1


def test_clahe_raises_the_contrast_of_a_dim_corner_and_percentile_does_not() -> None:
    image = flat_tiles(128)
    image[:64, :64] = 100 + image[:64, :64] // 16
    before, clahe, percentile = (equalized(image, name)[:32, :32].std() for name in NAMES)
    assert clahe > 1.5 * before
    assert percentile == pytest.approx(before, rel=0.15)


@pytest.mark.parametrize(("kind", "scale"), [(np.uint8, 1), (np.uint16, 257)])
def test_percentile_is_the_linear_map_between_two_order_statistics(kind: Any, scale: int) -> None:
    """Of 101 values the 1st and 99th percentile are the second and the last but one."""
    values = np.array([0, *range(50, 149), 255])
    pixels = np.random.default_rng(1).permutation(values).astype(kind)[None] * kind(scale)
    grey = pixels[0].astype(float) / scale
    expected = np.rint(255 * np.clip((grey - 50) / (148 - 50), 0, 1))
    np.testing.assert_array_equal(equalized(pixels, "percentile")[0], expected)


def test_without_equalization_16_bits_lose_their_lower_8() -> None:
    pixels = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    np.testing.assert_array_equal(equalized(pixels, "none"), [[0, 0, 1, 255]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_constant_image_stays_constant(name: str, kind: Any) -> None:
    """So that it is found to be bad, whatever becomes of the contrast."""
    assert np.ptp(equalized(np.full((40, 48), 200, dtype=kind), name)) == 0


@pytest.mark.parametrize("name", CONTRASTING)
def test_16_bits_are_equalized_before_they_become_8(name: str) -> None:
    """All values have the same upper 8 bits."""
    pixels = (20224 + flat_tiles(128).astype(np.uint16)).astype(np.uint16)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    assert len(np.unique(decode_grey(stream))) == 1
    assert len(np.unique(decode_grey(stream, equalize=name))) > 200


@pytest.mark.parametrize("name", CONTRASTING)
@pytest.mark.parametrize("size", [8, 40])
def test_the_whole_original_is_equalized_before_the_resize(
    name: str, size: int, tmp_path: Path
) -> None:
    """Also of a JPEG file, which is decoded at a fraction of its size otherwise."""
    rng = np.random.default_rng(3)
    smooth = Image.fromarray(rng.integers(60, 160, (10, 10), dtype=np.uint8)).resize((400, 320))
    smooth.save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        pixels = np.asarray(image)
    if name == "clahe":
        whole = np.rint(equalize_adapthist(pixels) * 255)
    else:
        low, high = np.quantile(pixels, 0.01), np.quantile(pixels, 0.99)
        whole = np.rint(((pixels - low) / (high - low)).clip(0, 1) * 255)
    expected = Image.fromarray(whole.astype(np.uint8)).resize((size, size), Image.Resampling.BOX)
    found = decode_grey(tmp_path / "a.jpg", 1, size, Image.Resampling.BOX, "stretch", name)
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("name", NAMES)
def test_files_and_arrays_are_equalized_alike_and_always_the_same(
    name: str, tmp_path: Path
) -> None:
    images = np.stack([flat_tiles(128)[:64, :96] // 2, flat_tiles(128)[64:, 32:] // 3])
    (tmp_path / "files").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "files" / f"{number}.png")
    np.save(tmp_path / "a.npy", images)
    sets = [
        np.stack(read_images(tmp_path / path, 32, "crop", name).images)
        for path in ("files", "a.npy", "files")
    ]
    np.testing.assert_array_equal(sets[0], sets[1])
    assert sets[0].tobytes() == sets[2].tobytes()
