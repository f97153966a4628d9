"""DICOM files: pixels against the standard's formulas and other decoders, headers, and refusals."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import exp
from pathlib import Path
from typing import Any

import _gdcm.gdcmswig as gdcm  # before pydicom, as src.data.dicom does
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame

from src.data import dicom
from src.data.archive import ArchiveEntry, list_entries
from src.data.dicom import BadDicomError, decode_dicom, read_header
from tests.conftest import ROOT, write_folder, write_zip
from tests.data.dicom_files import (
    ENCODED,
    dataset_of,
    dicom_bytes,
    encoded_by_gdcm,
    radiograph,
    saved,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # those of writing
PIXELS = radiograph(bits=12)
PLAIN = dicom_bytes(PIXELS, 12)


def stretched(values: NDArray[Any], white: int = 65535) -> NDArray[np.float64]:
    """Values of which the lowest is black and the highest white."""
    low, high = float(values.min()), float(values.max())
    return np.rint((values.astype(float) - low) * white / (high - low))


def shipped(name: str, **changes: Any) -> tuple[bytes, Dataset]:
    """One of pydicom's own files as a radiograph, and what is in it."""
    path = get_testdata_file(name, download=False)
    dataset = dcmread(path)
    changes = {"Modality": "CR", "BodyPartExamined": "CHEST"} | changes
    for keyword in ("WindowCenter", "WindowWidth", "PixelPaddingValue", "PixelSpacing"):
        if keyword in dataset:
            del dataset[keyword]
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue(), dataset


# Decoding


@pytest.mark.parametrize(
    "syntax",
    [
        *(uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian),
        uid.DeflatedExplicitVRLittleEndian,
    ],
    ids=lambda syntax: syntax.name,
)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_every_plain_syntax_gives_the_same_pixels(syntax: uid.UID, bits: int) -> None:
    pixels = radiograph(bits=bits)
    grey = decode_dicom(dicom_bytes(pixels, bits, syntax))
    white, dtype = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    assert grey.dtype == dtype
    assert np.array_equal(grey, stretched(pixels, white))


@pytest.mark.parametrize("syntax", [*ENCODED, uid.RLELossless], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_lossless_syntax_gives_the_pixels(syntax: uid.UID, bits: int, tmp_path: Path) -> None:
    pixels = radiograph(bits=bits)
    coded = encoded_by_gdcm(dicom_bytes(pixels, bits), syntax, tmp_path)
    assert dcmread(io.BytesIO(coded)).file_meta.TransferSyntaxUID == syntax
    white = 255 if bits == 8 else 65535
    assert np.array_equal(decode_dicom(coded), stretched(pixels, white))


def test_jpeg_baseline_is_what_pillow_reads() -> None:
    stream = io.BytesIO()
    Image.fromarray(radiograph(bits=8)).save(stream, "JPEG", quality=90)
    grey = decode_dicom(dicom_bytes(radiograph(bits=8), 8, uid.JPEGBaseline8Bit, stream.getvalue()))
    reference = stretched(np.asarray(Image.open(stream)), 255)
    assert np.abs(grey - reference).max() <= 2  # decoders round the transform differently
    assert np.abs(grey - reference).mean() < 0.2


def test_jpeg_extended_of_12_bits_is_read() -> None:
    """Two values of this file are published in pydicom's own tests."""
    content, dataset = shipped("JPGExtended.dcm", WindowCenter=2048, WindowWidth=4096)
    assert dataset.file_meta.TransferSyntaxUID == uid.JPEGExtended12Bit
    grey = decode_dicom(content)
    stored = np.rint(grey / 65535 * 4095)  # this window is all 12 bits
    assert (stored[420, 140], stored[230, 120]) == (244, 95)


@pytest.mark.parametrize(
    "name",
    [
        *("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"),
        *("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "CT_small.dcm"),
        *("JPEG2000.dcm", "JPEGLSNearLossless_16.dcm", "image_dfl.dcm"),
    ],
)
def test_other_files_are_what_gdcm_reads(name: str) -> None:
    """Signed values, rescaling and each syntax, by gdcm's own reader of files."""
    content, dataset = shipped(name)
    reader = gdcm.ImageReader()
    reader.SetFileName(get_testdata_file(name, download=False))
    assert reader.Read()
    buffer = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    kind = "i" if dataset.PixelRepresentation else "u"
    values = np.frombuffer(buffer, f"<{kind}{dataset.BitsAllocated // 8}")
    grey = decode_dicom(content)
    white = 65535 if dataset.BitsStored > 8 else 255
    assert np.array_equal(grey, stretched(values.reshape(grey.shape), white))


def test_threads_decode_as_one(tmp_path: Path) -> None:
    contents = [
        encoded_by_gdcm(dicom_bytes(radiograph(bits=12, seed=seed), 12), syntax, tmp_path)
        for seed, syntax in enumerate(4 * (*ENCODED, uid.RLELossless))
    ]
    alone = [decode_dicom(content) for content in contents]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(decode_dicom, contents), strict=True):
            assert np.array_equal(one, other)


def test_bits_that_are_not_stored_do_not_count() -> None:
    assert np.array_equal(decode_dicom(dicom_bytes(PIXELS | 0xF000, 12)), decode_dicom(PLAIN))


def test_a_file_without_meta_information_is_read() -> None:
    start = 144 + struct.unpack_from("<L", PLAIN, 140)[0]
    assert np.array_equal(decode_dicom(PLAIN[start:]), decode_dicom(PLAIN))


# What is shown


def linear(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.2.1, from 0 to 1."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 1
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.3.2, from 0 to 1."""
    if x <= c - w / 2:
        return 0
    if x > c + w / 2:
        return 1
    return (x - c) / w + 0.5


def sigmoid(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.3.1, from 0 to 1."""
    return 1 / (1 + exp(-4 * (x - c) / w))


SHAPES = {"": linear, "LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


@pytest.mark.parametrize("function", SHAPES)
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("is_signed", [False, True])
def test_a_window_is_that_of_the_standard(function: str, bits: int, is_signed: bool) -> None:
    pixels = radiograph(bits=bits)
    if is_signed:
        pixels = (pixels.astype(np.int64) - 2 ** (bits - 1)).astype(f"i{pixels.dtype.itemsize}")
    slope, intercept = 2, -7
    center, width = float(pixels.mean() * slope), 2.0**bits * 0.6
    tags = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    tags |= {"WindowCenter": [center, 1], "WindowWidth": [width, 2]}  # the first one counts
    grey = decode_dicom(dicom_bytes(pixels, bits, VOILUTFunction=function or None, **tags))
    white = 255 if bits == 8 else 65535
    shown = [SHAPES[function](float(x) * slope + intercept, center, width) for x in pixels.flat]
    assert np.abs(grey.ravel() - white * np.array(shown)).max() <= 0.5 + 1e-6
    assert np.mean([0 < x < 1 for x in shown]) > 0.2


def lut(values: NDArray[Any], first: int, bits: int) -> Dataset:
    """A lookup table that begins at a value."""
    item = Dataset()
    item.LUTDescriptor = [len(values) % 65536, first, bits]
    item.LUTData = values.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return item


CURVE = np.rint(np.sqrt(np.arange(3000) / 2999) * 4095)  # of 12 bits, for values from 500 on


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_the_first_lut_is_applied_in_place_of_a_window(bits: int, syntax: uid.UID) -> None:
    """Also one of 8 bits with more than 256 entries."""
    table = CURVE if bits == 12 else CURVE // 16
    tags = {"VOILUTSequence": [lut(table, 500, bits), lut(table[::-1], 0, bits)]}
    tags |= {"WindowCenter": 100, "WindowWidth": 5}
    grey = decode_dicom(dicom_bytes(PIXELS, 12, syntax, **tags))
    expected = table[np.clip(PIXELS.astype(int) - 500, 0, 2999)] / (2**bits - 1) * 65535
    assert np.abs(grey - expected).max() <= 0.5


def test_a_window_follows_the_modality_s_lut() -> None:
    item = lut(CURVE, 500, 16)
    item.ModalityLUTType = "US"
    tags = {"ModalityLUTSequence": [item], "WindowCenter": 2000, "WindowWidth": 3000}
    grey = decode_dicom(dicom_bytes(PIXELS, 12, **tags))
    shown = CURVE[np.clip(PIXELS.astype(int) - 500, 0, 2999)]
    expected = [65535 * linear(x, 2000, 3000) for x in shown.flat]
    assert np.abs(grey.ravel() - expected).max() <= 0.5


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2000, "WindowWidth": 1500}])
def test_monochrome1_is_inverted(window: dict[str, int]) -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1"} | window
    inverted = decode_dicom(dicom_bytes(PIXELS, 12, **tags)).astype(int)
    assert np.abs(65535 - inverted - decode_dicom(dicom_bytes(PIXELS, 12, **window))).max() <= 1


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("padding", "tags"),
    [
        (-2000, {"PixelPaddingValue": -2000}),
        (-2000, {"PixelPaddingValue": -1500, "PixelPaddingRangeLimit": -2500}),
    ],
)
def test_padding_is_black_and_does_not_count(
    interpretation: str, padding: int, tags: dict[str, int]
) -> None:
    pixels = radiograph(bits=10).astype(np.int16)
    padded = np.pad(pixels, 3, constant_values=padding)
    tags = {"PhotometricInterpretation": interpretation} | tags
    grey = decode_dicom(dicom_bytes(padded, 16, **tags))
    alone = decode_dicom(dicom_bytes(pixels, 16, PhotometricInterpretation=interpretation))
    assert np.array_equal(grey, np.pad(alone, 3))


def test_padding_that_was_written_as_unsigned_is_found() -> None:
    pixels = np.pad(radiograph(bits=10).astype(np.int16), 3, constant_values=-2000)
    dataset = dataset_of(pixels, 16)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    expected = decode_dicom(dicom_bytes(pixels, 16, PixelPaddingValue=-2000))
    assert np.array_equal(decode_dicom(saved(dataset)), expected)


@pytest.mark.parametrize(
    ("tags", "shape"),
    [
        ({"PixelSpacing": [0.2, 0.2]}, (24, 20)),
        ({"PixelSpacing": [0.2, 0.1]}, (48, 20)),
        ({"ImagerPixelSpacing": [0.1, 0.15]}, (24, 30)),
        ({"PixelAspectRatio": [2, 1]}, (48, 20)),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.2, 0.1]}, (24, 20)),
        ({"PixelSpacing": [0, 0], "PixelAspectRatio": [1, 2]}, (24, 40)),
    ],
)
def test_pixels_become_square(tags: dict[str, Any], shape: tuple[int, int]) -> None:
    grey = decode_dicom(dicom_bytes(PIXELS, 12, **tags))
    assert grey.shape == shape
    square = decode_dicom(PLAIN)
    again = Image.fromarray(grey.astype(np.float32)).resize((20, 24), Image.Resampling.BOX)
    assert np.abs(np.asarray(again) - square).mean() < 0.02 * 65535


def test_a_stretched_circle_is_round_again() -> None:
    """Rows of half the height: twice as many of them show it."""
    rows, columns = np.mgrid[:40, :80]
    disc = ((rows - 19.5) ** 2 * 4 + (columns - 39.5) ** 2 < 30**2) * np.uint8(255)
    grey = decode_dicom(dicom_bytes(disc, 8, PixelSpacing=[0.4, 0.2]))
    assert grey.shape == (80, 80)
    height, width = np.ptp(np.argwhere(grey > 127), axis=0) + 1
    assert abs(height - width) <= 1


# Refusals


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def without_end(content: bytes) -> bytes:
    """With half of the codestream."""
    dataset = dcmread(io.BytesIO(content))
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def with_overlay() -> bytes:
    dataset = dataset_of(PIXELS, 12)
    dataset.add_new(0x60020010, "US", 24)
    return saved(dataset)


def without_pixels() -> bytes:
    dataset = dataset_of(PIXELS, 12)
    del dataset.PixelData
    dataset.PixelData = b""
    return saved(dataset)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "burned in": (lambda: dicom_bytes(PIXELS, 12, BurnedInAnnotation="YES"), "burned-in text"),
    "overlays": (with_overlay, "overlays"),
    "frames": (lambda: dicom_bytes(PIXELS, 12, NumberOfFrames=2), "several frames"),
    "colour": (lambda: shipped("SC_rgb_jpeg_gdcm.dcm")[0], "not grey"),
    "palette": (lambda: shipped("examples_palette.dcm")[0], "not grey"),
    "modality": (lambda: dicom_bytes(PIXELS, 12, Modality="MG"), "neither CR nor DX"),
    "body part": (lambda: dicom_bytes(PIXELS, 12, BodyPartExamined="HAND"), "is no chest"),
    "part of it": (lambda: dicom_bytes(PIXELS, 12, BodyPartExamined="CHESTABDOMEN"), "no chest"),
    "empty pixels": (without_pixels, "no pixel data"),
    "no image": (lambda: shipped("rtplan.dcm")[0], "no pixel data"),
    "cut in the pixels": (lambda: cut(PLAIN, 0.9), "cut off"),
    "cut in the header": (lambda: cut(PLAIN, 0.3), "cut off"),
    "cut JPEG 2000": (lambda: without_end(shipped("JPEG2000.dcm")[0]), "pixel data is cut off"),
    "cut JPEG-LS": (
        lambda: without_end(shipped("MR_small_jpeg_ls_lossless.dcm")[0]),
        "pixel data is cut off",
    ),
    "cut RLE": (lambda: without_end(shipped("MR_small_RLE.dcm")[0]), "cannot be decoded"),
    "a damaged stream": (
        lambda: dicom_bytes(PIXELS, 12, uid.JPEGLossless, b"\xff\xd8damaged\xff\xd9"),
        "cannot be decoded",
    ),
    "a film": (lambda: dicom_bytes(PIXELS, 12, uid.MPEG2MPML, b"film"), "transfer syntax"),
    "bits in the middle": (lambda: dicom_bytes(PIXELS, 12, HighBit=13), "bits"),
    "one bit": (lambda: shipped("liver_1frame.dcm")[0], "bits"),
    "32 bits": (lambda: shipped("rtdose_1frame.dcm")[0], "bits"),
    "no width": (
        lambda: dicom_bytes(PIXELS, 12, WindowCenter=1, WindowWidth=0),
        "cannot be decoded",
    ),
    "padding alone": (
        lambda: dicom_bytes(np.full((4, 4), 7, np.uint16), 16, PixelPaddingValue=7),
        "every pixel is padding",
    ),
    "text": (lambda: b"no DICOM at all", "no pixel data"),
    "nothing": (lambda: b"", "no pixel data"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_grey_chest_radiograph_is_refused(case: str) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(BadDicomError, match=reason):
        decode_dicom(make())


def test_what_is_not_stated_is_accepted() -> None:
    keywords = ("Modality", "BodyPartExamined", "ViewPosition", "BurnedInAnnotation", "PatientID")
    content = dicom_bytes(PIXELS, 12, **dict.fromkeys(keywords))
    assert np.array_equal(decode_dicom(content), decode_dicom(PLAIN))


@pytest.mark.parametrize(
    "part", ["CHEST", "Chest", "THORAX", "CHEST PA", "PORT_CHEST", "T\u00f3rax", "LUNG", ""]
)
def test_a_chest_has_several_spellings(part: str) -> None:
    content = dicom_bytes(PIXELS, 12, BodyPartExamined=part, SpecificCharacterSet="ISO_IR 192")
    assert decode_dicom(content).shape == PIXELS.shape


def body_of(content: bytes) -> tuple[bytes, bytes]:
    """A file's meta information, and what follows."""
    end = 144 + struct.unpack_from("<L", content, 140)[0]
    return content[:end], content[end:]


META, BODY = body_of(PLAIN)
SEQUENCE = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
EMPTY_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)


def deflate_bomb() -> bytes:
    meta, _ = body_of(dicom_bytes(PIXELS, 12, uid.DeflatedExplicitVRLittleEndian))
    packer = zlib.compressobj(9, wbits=-15)
    return meta + b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()


def rle_bomb() -> bytes:
    segment = b"\x81\x00" * 500_000
    header = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13)
    return dicom_bytes(PIXELS, 12, uid.RLELossless, header + 2 * segment)


def larger_than_it_states(name: str) -> bytes:
    return shipped(name, Rows=8, Columns=8)[0]


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "size": (lambda: dicom_bytes(PIXELS, 12, Rows=65535, Columns=65535), "too many"),
    "size without data": (lambda: dicom_bytes(PIXELS, 12, Rows=9999, Columns=9999), "cut off"),
    "pixels as thin as a hair": (
        lambda: dicom_bytes(PIXELS, 12, PixelSpacing=[1e-9, 1]),
        "square pixels are too many",
    ),
    "deflate": (deflate_bomb, "unpacks to more than"),
    "RLE": (rle_bomb, "cannot be decoded"),
    "nested sequences": (lambda: META + 50_000 * (SEQUENCE + ITEM) + BODY, "RecursionError"),
    "JPEG 2000": (lambda: larger_than_it_states("JPEG2000.dcm"), "another size"),
    "JPEG-LS": (lambda: larger_than_it_states("MR_small_jpeg_ls_lossless.dcm"), "another size"),
    "JPEG": (lambda: larger_than_it_states("JPGExtended.dcm"), "another size"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_takes_no_more_memory_than_an_image(case: str) -> None:
    make, reason = HOSTILE[case]
    content = make()
    tracemalloc.start()
    try:
        with pytest.raises(BadDicomError, match=reason):
            decode_dicom(content)
        assert tracemalloc.get_traced_memory()[1] < 500 << 20
    finally:
        tracemalloc.stop()


def test_a_header_is_parsed_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since each item of a sequence becomes an object of some hundred times its bytes."""
    content = META + SEQUENCE + 9_000 * EMPTY_ITEM + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) + BODY
    assert np.array_equal(decode_dicom(content), decode_dicom(PLAIN))
    monkeypatch.setattr(dicom._BoundedReader, "left", 1 << 16)
    with pytest.raises(BadDicomError, match=r"header is of more than|OSError"):
        decode_dicom(content)


# Headers


def entry_of(content: bytes) -> ArchiveEntry:
    return ArchiveEntry(Path("x"), len(content), lambda: io.BytesIO(content))  # type: ignore[arg-type]


@pytest.mark.parametrize("write", [write_zip, write_folder])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian])
def test_a_header_states_the_patient_and_the_view(
    write: Callable[[Path, dict[str, bytes]], Path], syntax: uid.UID, tmp_path: Path
) -> None:
    content = dicom_bytes(PIXELS, 12, syntax, ViewPosition="LL", Modality=None, PatientID=" 12 ")
    (entry,) = list_entries(write(tmp_path / "in.zip", {"IM1": content}))
    header = read_header(entry)
    assert (header.patient, header.study, header.is_lateral) == ("12", "1.2.3", True)
    assert header.missing == ("Modality",)


LATERAL = {"LATERAL": True, "LL": True, "RL": True, "LAT": True, "Left lateral": True}
FRONTAL = {"PA": False, "AP": False, "": False, "LAO": False, "AP SUPINE": False}


@pytest.mark.parametrize("view", LATERAL | FRONTAL)
def test_lateral_views_are_told_from_frontal_ones(view: str) -> None:
    content = dicom_bytes(PIXELS, 12, ViewPosition=view)
    assert read_header(entry_of(content)).is_lateral == (LATERAL | FRONTAL)[view]


def test_a_long_header_is_read_to_its_end() -> None:
    dataset = dataset_of(PIXELS, 12)
    dataset.add_new(0x00090010, "LO", "ACME")
    dataset.add_new(0x00091001, "OB", bytes(200_000))
    assert read_header(entry_of(saved(dataset))).patient == "7"
    nested = META + SEQUENCE + 20_000 * EMPTY_ITEM + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) + BODY
    assert read_header(entry_of(nested)).patient == "7"


def test_only_the_start_of_a_file_is_read() -> None:
    read = []

    class Noting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            content = super().read(size)
            read.append(len(content))
            return content

    content = dicom_bytes(radiograph((1000, 1000)), 12)
    entry = ArchiveEntry(Path("x"), len(content), lambda: Noting(content))  # type: ignore[arg-type]
    assert read_header(entry).patient == "7"
    assert sum(read) <= 1 << 16 < len(content)


# What must not be seen


PLANTED = (
    *("Modality", "BodyPartExamined", "RescaleSlope", "NumberOfFrames", "SpecificCharacterSet"),
    *("PhotometricInterpretation", "VOILUTFunction", "WindowWidth", "PixelSpacing"),
)


def test_no_value_of_a_tag_is_printed_or_in_a_message() -> None:
    """Not in errors either, nor in what pydicom warns of and logs."""
    code = """
import io, logging, sys, zipfile
from src.data.archive import ArchiveEntry
from src.data.dicom import decode_dicom, read_header
for content in map(bytes.fromhex, sys.stdin.read().split()):
    try:
        read_header(ArchiveEntry("x", len(content), lambda: io.BytesIO(content)))
        decode_dicom(content)
    except ValueError as error:
        print(error)
"""
    contents = []
    for keyword in PLANTED:
        dataset = dataset_of(PIXELS, 12, WindowCenter=1, WindowWidth=2, PatientID="SECRET")
        dataset.add_new(keyword, "LO", "SECRET")
        start = struct.pack("<HH", dataset[keyword].tag.group, dataset[keyword].tag.elem)
        kind = dictionary_VR(keyword).encode()
        contents.append(saved(dataset).replace(start + b"LO", start + kind))
    slope = contents[PLANTED.index("RescaleSlope")]
    with pytest.raises(ValueError, match="SECRET"):  # a message as it would be
        float(dcmread(io.BytesIO(slope)).RescaleSlope)
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(content.hex() for content in contents),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) >= 6  # of the files that are refused
    assert "SECRET" not in done.stdout
    assert done.stderr == ""


def test_gdcm_leaves_python_s_compression_alone() -> None:
    """Its copy of zlib crashes Python's where it is loaded otherwise."""
    code = """
import src.data.dicom, zlib
packer = zlib.compressobj(wbits=-15)
packed = packer.compress(bytes(range(256)) * 99) + packer.flush()
assert zlib.decompress(packed, -15) == bytes(range(256)) * 99
print("ran")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "ran\n"
