import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.data.decode import decode_grey, decode_pixels, encode_png

GREY = np.arange(48).reshape(6, 8) * 5  # 0 to 235


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes) -> NDArray[np.int64]:
    return decode_grey(io.BytesIO(content)).astype(np.int64)


def tiff(
    values: NDArray[np.generic], white_is_zero: bool = False, extra: Sequence[int] = ()
) -> bytes:
    """Write a TIFF of one strip by the specification, since Pillow writes few of its kinds."""
    height, width, samples = (*values.shape, 1)[:3]
    order = ">" if values.dtype.byteorder == ">" else "<"
    bits, kind = values.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    photometric = 2 if samples > 2 else 0 if white_is_zero else 1
    data = values.tobytes()
    tags: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * samples),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [8]),
        277: ("H", [samples]),
        278: ("I", [height]),
        279: ("I", [len(data)]),
        338: ("H", extra),
        339: ("H", [kind] * samples),
    }
    tags = {tag: entry for tag, entry in tags.items() if entry[1]}
    directory = 8 + len(data)
    place = directory + 2 + 12 * len(tags) + 4
    rows, rest = b"", b""
    for tag, (letter, numbers) in tags.items():
        value = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(value) > 4:
            value, rest = struct.pack(f"{order}I", place + len(rest)), rest + value
        rows += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[letter], len(numbers))
        rows += value.ljust(4, b"\0")
    head = b"MM\0*" if order == ">" else b"II*\0"
    head += struct.pack(f"{order}I", directory)
    return head + data + struct.pack(f"{order}H", len(tags)) + rows + bytes(4) + rest


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def with_broken_exif(kind: str, exif: bytes) -> bytes:
    image = Image.fromarray(GREY.astype(np.uint8))
    if kind == "JPEG":
        content = encoded(image, "JPEG", quality=100, dpi=(72, 72))
        segment = b"Exif\0\0" + exif
        return (
            content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]
        )
    if kind == "WEBP":
        return encoded(image, "WEBP", lossless=True, exif=b"Exif\0\0" + exif)
    content = encoded(image, "PNG")
    chunk = png_chunk(b"eXIf", exif)
    if kind == "PNG text":
        chunk = png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  8\n" + exif)
    return content[:33] + chunk + content[33:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG text", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"MM\0*", b"MM\0*\0\0\0", b"", b"no EXIF at all", b"II*\0\xff\xff\xff\xff"]
)
def test_a_picture_with_broken_exif_is_upright(kind: str, exif: bytes) -> None:
    found = decoded(with_broken_exif(kind, exif))
    assert found.shape == GREY.shape
    assert np.abs(found - GREY).max() <= (4 if kind == "JPEG" else 0)


def test_a_whole_orientation_counts() -> None:
    """The control of the test above: the same picture with whole EXIF is turned."""
    exif = Image.Exif()
    exif[0x0112] = 3
    whole = exif.tobytes().removeprefix(b"Exif\0\0")
    for kind in ("JPEG", "PNG", "WEBP"):
        assert np.abs(decoded(with_broken_exif(kind, whole)) - GREY[::-1, ::-1]).max() <= 4, kind


@pytest.mark.parametrize("error", [struct.error, KeyError, TypeError, zlib.error, MemoryError])
def test_any_error_of_a_decoder_is_a_named_reason(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(image: Image.Image) -> None:
        raise error("odd")

    content = encoded(Image.fromarray(GREY.astype(np.uint8)), "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", fail)
    with pytest.raises(ValueError, match="odd"):
        decoded(content)


def test_the_disks_errors_stay_its_own(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        decode_grey(tmp_path)


DEPTHS = [
    *(("u1", 1, 255), ("<u2", 257, 65535), (">u2", 257, 65535), ("<u4", 257, 65535)),
    *(("<i4", 257, 65535), (">i4", 257, 65535), ("<f4", 257, 65535), (">f4", 257, 65535)),
]


@pytest.mark.parametrize(("dtype", "scale", "white"), DEPTHS)
def test_a_tiff_of_any_sample_format_becomes_the_same_grey(
    dtype: str, scale: int, white: int
) -> None:
    np.testing.assert_array_equal(decoded(tiff((GREY * scale).astype(dtype))), GREY)


@pytest.mark.parametrize(
    ("dtype", "scale", "white"), [row for row in DEPTHS if row[0] in ("u1", "<u2", "<f4", ">f4")]
)
def test_a_tiff_whose_white_is_zero_is_no_negative(dtype: str, scale: int, white: int) -> None:
    content = tiff((white - GREY * scale).astype(dtype), white_is_zero=True)
    np.testing.assert_array_equal(decoded(content), GREY)


@pytest.mark.parametrize("dtype", [">u2", "<u4", "<i4", ">i4", "<f8"])
def test_a_tiff_that_cannot_be_read_is_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match="cannot be identified as an image"):
        decoded(tiff((65535 - GREY * 257).astype(dtype), white_is_zero=True))


@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i2"])
def test_signed_values_are_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match="its values are signed; bring them to 8 bits"):
        decoded(tiff((GREY // 2).astype(dtype)))


@pytest.mark.parametrize("dtype", ["<i4", "<f4"])
@pytest.mark.parametrize("values", [GREY * 257 - 1, GREY * 16, GREY * 300])
def test_values_off_the_scale_of_16_bits_are_refused(dtype: str, values: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="where white would be 65535"):
        decoded(tiff(values.astype(dtype)))


def coloured(kind: str, scale: int) -> bytes:
    """Return GREY in 16 bits of several channels, with white at ``scale`` times 255."""
    grey, opaque = (GREY * scale).astype(np.uint16), np.full(GREY.shape, 255 * scale, np.uint16)
    channels = [opaque if letter == "A" else grey for letter in kind.partition(" ")[0]]
    values = np.stack(channels, axis=-1)
    if kind.endswith("TIFF"):
        return tiff(values.astype("<u2"), extra=[2] if "A" in kind else [])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    colour = {"RGB": 2, "LA": 4, "RGBA": 6}[kind]
    head = struct.pack(">IIBBBBB", GREY.shape[1], GREY.shape[0], 16, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize("kind", ["RGB", "LA", "RGBA", "RGB TIFF", "RGBA TIFF"])
def test_several_channels_of_16_bits_are_read_and_of_12_refused(kind: str) -> None:
    assert np.abs(decoded(coloured(kind, 257)) - GREY).max() <= 1
    with pytest.raises(ValueError, match=r"its values are 0 to .*, where white would be 65535"):
        decoded(coloured(kind, 16))


WIDE = np.pad(np.full((12, 12), 200, dtype=np.uint8), ((0, 0), (2, 2)), constant_values=100)


@pytest.mark.parametrize("turned", [False, True])
def test_an_image_that_is_not_square_is_made_square_as_asked(turned: bool) -> None:
    """4:3, with a square in the middle; upright it is the same the other way round."""
    content = encoded(Image.fromarray(WIDE.T if turned else WIDE), "PNG")
    found = {
        fit: decode_grey(io.BytesIO(content), 1, 8, Image.Resampling.NEAREST, fit)
        for fit in ("stretch", "crop", "pad")
    }
    found = {fit: image.T if turned else image for fit, image in found.items()}
    np.testing.assert_array_equal(found["crop"], np.full((8, 8), 200))
    np.testing.assert_array_equal(found["stretch"], np.tile([100, *[200] * 6, 100], (8, 1)))
    row = np.array([100, *[200] * 6, 100])
    np.testing.assert_array_equal(found["pad"], [[0] * 8, *[row] * 6, [0] * 8])


def test_a_square_image_is_the_same_by_any_fit() -> None:
    content = encoded(Image.effect_noise((48, 48), 80), "PNG")
    lanczos = Image.Resampling.LANCZOS
    stretched, cropped, padded = (
        decode_grey(io.BytesIO(content), 1, 16, lanczos, fit) for fit in ("stretch", "crop", "pad")
    )
    np.testing.assert_array_equal(cropped, stretched)
    np.testing.assert_array_equal(padded, stretched)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pixels_keep_their_depth_and_stand_upright(kind: type, orientation: int) -> None:
    values = np.random.default_rng(1).integers(0, np.iinfo(kind).max, (6, 9)).astype(kind)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG", exif=exif)
    turns = {1: 0, 3: 2, 6: 3}[orientation]  # by 90 degrees, to the left
    pixels = decode_pixels(stream.getvalue())
    assert pixels.dtype == kind
    np.testing.assert_array_equal(pixels, np.rot90(values, turns))
    np.testing.assert_array_equal(decode_pixels(encode_png(pixels)), pixels)
    np.testing.assert_array_equal(decode_grey(io.BytesIO(encode_png(pixels))), decode_grey(stream))
