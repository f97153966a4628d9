import errno
import io
import os
import re
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from src.common.errors import UserError
from src.config.data import PreprocessSettings
from src.data import decode as image_files
from src.data.decode import decode_grey
from src.data.preprocess import decode_image
from src.data.sources import write_image
from tests.conftest import png_bytes, prepared_from


def settings(**changes: Any) -> PreprocessSettings:
    values = {
        "image_size": 16,
        "resampling": "lanczos",
        "fit": "stretch",
        "equalize": "none",
        "min_side": 32,
        "on_bad_image": "refuse",
    }
    return PreprocessSettings(**values | changes)


def ramp(size: int = 64) -> Image.Image:
    return Image.fromarray(np.linspace(0, 255, size * size).reshape(size, size).astype(np.uint8))


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("top", "kind"),
    [
        *product((1, 255, 4095), (np.uint16, np.int32, np.float32)),
        *product((65536, 1 << 20), (np.int32, np.float32)),
    ],
)
def test_values_of_another_scale_than_16_bits_are_refused(
    tmp_path: Path, top: int, kind: type
) -> None:
    """Their upper 8 bits would be black, a few greys, or white."""
    values = np.linspace(0, top, 40 * 40).reshape(40, 40).astype(kind)
    path = saved(tmp_path / "a.tif", Image.fromarray(values))
    message = rf"its values are .* to {re.escape(f'{top:g}')}, where white would be 65535"
    with pytest.raises(ValueError, match=message):
        decode_image(path, settings())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, name: str) -> None:
    image = ramp()
    exif = image.getexif()
    exif[0x0112] = orientation
    path = saved(tmp_path / name, image, exif=exif)
    untagged = saved(tmp_path / f"plain-{name}", image)
    image = Image.open(untagged).convert("L")
    image.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(decode_grey(path), np.asarray(expected))


@pytest.mark.parametrize("tag", [b"\x00\x01", b"\x01\x0f"])
def test_an_odd_tag_of_the_exif_does_not_matter(tmp_path: Path, tag: bytes) -> None:
    """Pillow's own way of turning writes all tags again, and breaks at those of another type."""
    number = int.from_bytes(tag, "big")
    entries = [(number, 4, 1, 0xFFFFFFFF), (0x0112, 3, 1, 6 << 16)]
    block = b"MM\x00*" + struct.pack(">I", 8) + struct.pack(">H", len(entries))
    block += b"".join(struct.pack(">HHII", *entry) for entry in sorted(entries))
    path = saved(tmp_path / "a.jpeg", ramp(), exif=b"Exif\x00\x00" + block + bytes(4), quality=100)
    turned = np.rot90(np.asarray(ramp()), -1)
    np.testing.assert_allclose(decode_grey(path), turned, atol=8)


def test_a_format_that_starts_a_program_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    ramp().save(path, format="EPS")
    with pytest.raises(ValueError, match="cannot be identified as an image"):
        decode_image(path, settings())


def test_an_image_that_fetch_could_not_read_is_not_called_one_of_an_unknown_kind(
    tmp_path: Path,
) -> None:
    (tmp_path / "000001.png").touch()
    with pytest.raises(ValueError, match=r"^it is empty; if fetch could not read it, fetch has"):
        decode_image(tmp_path / "000001.png", settings())


def test_where_the_disk_fails_the_image_is_not_taken_for_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be left out where bad ones may be, and be missing ever after."""
    with pytest.raises(UserError, match=r"a\.png is missing; `dvc repro` fetches"):
        decode_image(tmp_path / "a.png", settings())
    path = saved(tmp_path / "a.png", ramp())
    for number in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES):
        error = OSError(number, os.strerror(number), str(path))
        monkeypatch.setattr(Image, "open", Mock(side_effect=error))
        with pytest.raises(OSError, match=os.strerror(number)) as raised:
            decode_image(path, settings())
        assert raised.value.errno == number


def test_an_image_is_accepted_up_to_its_limit_of_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever Pillow's own warning says, in whichever thread."""
    path = saved(tmp_path / "a.png", Image.effect_noise((50, 50), 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2400)
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        monkeypatch.setattr(image_files, "MAX_PIXELS", 2500)
        assert len(list(pool.map(lambda _: decode_image(path, settings()), range(40)))) == 40
        monkeypatch.setattr(image_files, "MAX_PIXELS", 2499)
        with pytest.raises(ValueError, match="50 x 50 pixels are too many"):
            decode_image(path, settings())


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_every_mode_gives_the_same_grey(tmp_path: Path, mode: str) -> None:
    grey = ramp()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert(mode)
    path = saved(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), image)
    expected = np.asarray(grey.resize((16, 16), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(decode_image(path, settings()).astype(int) - expected).max() <= 2


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    image = ramp().convert("RGBA")
    image.putalpha(Image.fromarray(np.where(np.arange(64) < 32, 0, 255).astype(np.uint8)[None]
                                   .repeat(64, 0)))  # fmt: skip
    array = decode_image(saved(tmp_path / "a.png", image), settings())
    assert array[:, :7].max() <= 1  # the filter rings a little
    assert array[8:, 9:].min() > 100


def test_the_resize_is_antialiased(tmp_path: Path) -> None:
    """A pattern finer than the target's pixels becomes grey; nearest keeps its extremes."""
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(checks))
    with pytest.raises(ValueError, match="same value"):
        decode_image(path, settings(resampling="box"))
    checks[:8] = 0
    path = saved(tmp_path / "b.png", Image.fromarray(checks))
    assert set(np.unique(decode_image(path, settings(resampling="box"))[4:])) <= {127, 128}


def test_a_large_jpeg_is_decoded_reduced_and_comes_out_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8)).resize((1024, 1024))
    path = saved(tmp_path / "a.jpeg", smooth, quality=95)
    reduced = decode_image(path, settings()).astype(int)
    with Image.open(path) as image:
        full = np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(reduced - full).max() <= 6
    with Image.open(path) as image:
        image.draft("L", (32, 32))
        assert image.size == (128, 128)  # decoded at an eighth of its size


BAD = {
    "empty": b"",
    "text": b"hello",
    "truncated": png_bytes(1)[:300],
    "tiny": png_bytes(1, size=8),
    "constant": None,
}


def bad_bytes(kind: str) -> bytes:
    content = BAD[kind]
    if content is None:
        buffer = io.BytesIO()
        Image.new("L", (64, 64), 9).save(buffer, format="PNG")
        return buffer.getvalue()
    return content


def table_of(folder: Path, files: dict[str, bytes]) -> pd.DataFrame:
    rows = []
    for path, content in files.items():
        split, label, name = path.split("/")
        rows.append(write_image(folder, split, label, name, content, name.split("-")[0]))
    return pd.DataFrame(map(asdict, rows))


def good_files() -> dict[str, bytes]:
    return {
        f"{split}/{label}/{split}{label}{number}-1.png": png_bytes(hash_of(split, label) + number)
        for split in ("train", "test")
        for label in ("NORMAL", "PNEUMONIA")
        for number in range(3)
    }


def hash_of(split: str, label: str) -> int:
    return 10 * ["train", "test"].index(split) + 100 * ["NORMAL", "PNEUMONIA"].index(label)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_named_and_refused_or_skipped(tmp_path: Path, kind: str) -> None:
    files = good_files() | {"train/NORMAL/bad-1.png": bad_bytes(kind)}
    table = table_of(tmp_path, files)
    with pytest.raises(UserError, match=r"train/NORMAL/bad-1\.png: .*on_bad_image"):
        prepared_from(table, tmp_path, settings())
    arrays, kept, quality = prepared_from(table, tmp_path, settings(on_bad_image="skip"))
    assert list(quality.bad) == ["train/NORMAL/bad-1.png"]
    assert [len(images) for images in arrays.values()] == [3, 3, 3, 3]
    assert set(quality.images.values()) == {3}
    assert "train/NORMAL/bad-1.png" not in set(kept["file"])


def test_a_bad_image_does_not_hide_those_after_it(tmp_path: Path) -> None:
    files = {"train/NORMAL/0bad-1.png": b"hello"} | good_files()
    arrays, _, _ = prepared_from(table_of(tmp_path, files), tmp_path, settings(on_bad_image="skip"))
    assert [len(images) for images in arrays.values()] == [3, 3, 3, 3]


@pytest.mark.parametrize("factor", [256, 257])  # the upper 8 bits alone, or repeated
def test_sixteen_bits_become_eight_exactly(tmp_path: Path, factor: int) -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * factor
    path = saved(tmp_path / "a.png", Image.fromarray(values))
    np.testing.assert_array_equal(decode_grey(path, min_side=16), values // 256)
    with pytest.raises(ValueError, match="16 x 16 is smaller than 17 pixels"):
        decode_grey(path, min_side=17)


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (40, 40), (200, 100, 50, 0))
    assert not decode_grey(saved(tmp_path / "a.png", clear)).any()


def test_the_table_tells_which_row_shows_which_file(tmp_path: Path) -> None:
    files = good_files()
    arrays, kept, found = prepared_from(table_of(tmp_path, files), tmp_path, settings())
    for place, images in arrays.items():
        assert found.mean_grey[place] == pytest.approx(images.mean())
    for row in kept.itertuples():
        expected = decode_image(tmp_path / str(row.file), settings())
        np.testing.assert_array_equal(arrays[row.split, row.label][row.row], expected)


def test_nothing_left_of_a_class_is_refused(tmp_path: Path) -> None:
    files = {
        name: b"bad" if name.startswith("test/NORMAL") else content
        for name, content in good_files().items()
    }
    with pytest.raises(UserError, match="no usable image is left in test/NORMAL"):
        prepared_from(table_of(tmp_path, files), tmp_path, settings(on_bad_image="skip"))


def test_identical_images_and_crossing_patients_are_counted(tmp_path: Path) -> None:
    files = good_files()
    files["train/NORMAL/again-1.png"] = files["train/NORMAL/trainNORMAL0-1.png"]
    files["test/NORMAL/leak-1.png"] = files["train/NORMAL/trainNORMAL1-1.png"]
    files["test/PNEUMONIA/trainPNEUMONIA2-9.png"] = png_bytes(999)
    _, _, quality = prepared_from(table_of(tmp_path, files), tmp_path, settings())
    assert quality.identical_within == 1
    assert quality.identical_across == 1
    assert quality.patients_across == 1


def test_a_patient_of_different_classes_in_both_splits_is_counted(tmp_path: Path) -> None:
    table = table_of(tmp_path, good_files())
    for split, label in (("train", "NORMAL"), ("test", "PNEUMONIA"), ("test", "NORMAL")):
        first = table.index[(table["split"] == split) & (table["label"] == label)][0]
        table.loc[first, "patient"] = "somebody"
    _, _, quality = prepared_from(table, tmp_path, settings())
    assert quality.patients_across == 1


@pytest.mark.parametrize(("size", "enlarged"), [(32, 0), (40, 1), (41, 13)])
def test_originals_with_fewer_pixels_than_asked_for_are_counted(
    tmp_path: Path, size: int, enlarged: int
) -> None:
    """Twelve of 40 x 40 pixels, and one of 64 x 36."""
    files = good_files()
    flat = np.asarray(ramp())[:36]
    stream = io.BytesIO()
    Image.fromarray(flat).save(stream, format="PNG")
    files["train/NORMAL/flat-1.png"] = stream.getvalue()
    table = table_of(tmp_path, files)
    _, _, found = prepared_from(table, tmp_path, settings(image_size=size))
    assert found.enlarged == enlarged


def test_each_image_is_equalized_as_asked(tmp_path: Path) -> None:
    table = table_of(tmp_path, good_files())
    arrays, kept, _ = prepared_from(table, tmp_path, settings(equalize="percentile"))
    for row in kept.itertuples():
        expected = decode_grey(
            tmp_path / str(row.file), 1, 16, Image.Resampling.LANCZOS, equalize="percentile"
        )
        np.testing.assert_array_equal(arrays[row.split, row.label][row.row], expected)


def test_the_order_of_the_images_is_that_of_the_table(tmp_path: Path) -> None:
    table = table_of(tmp_path, good_files())
    first, _, _ = prepared_from(table, tmp_path, settings())
    again, _, _ = prepared_from(table[::-1], tmp_path, settings())
    for place, images in first.items():
        assert images.shape == (3, 16, 16)
        np.testing.assert_array_equal(images[::-1], again[place])
