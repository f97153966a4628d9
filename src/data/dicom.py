"""Reader of DICOM radiographs: what their headers state, and their pixels as grey.

No value of a tag is in a message, since any value may name a patient.
"""

import io
import logging
import re
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

# gdcm brings a copy of zlib, by which Python's own crashes: if gdcm is loaded before it, and
# wherever `import gdcm`, as in pydicom, shows the copy to all of the process.
import _gdcm.gdcmswig as gdcm
import numpy as np
import pydicom.config
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.processing import apply_windowing
from pydicom.pixels.utils import pixel_array
from pydicom.tag import BaseTag

from .archive import MAX_FILE_BYTES, ArchiveEntry, read_entry, read_start
from .decode import MAX_PIXELS

# What pydicom and gdcm warn of may hold values of tags.
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").disabled = True
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()

HEADER_START = 1 << 16  # bytes of a file in which nearly all headers end
MAX_HEADER_BYTES = 2 << 20  # that are parsed; sequences of empty items take 100 times as much
MAX_INFLATED_BYTES = 2 * MAX_PIXELS + MAX_HEADER_BYTES
BIG_ENDIAN, DEFLATED = uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian
NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, BIG_ENDIAN, DEFLATED)
CODED = (  # as one codestream, which states its size and ends in END_OF_IMAGE
    *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1),
    *(uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000),
)
# By Pillow, whose OpenJPEG is newer than gdcm's and which notices more damage.
BY_PILLOW = (uid.JPEGBaseline8Bit, uid.JPEG2000Lossless, uid.JPEG2000)
END_OF_IMAGE = b"\xff\xd9"
START_OF_FRAME = {*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC}  # markers of JPEG

# What is counted where it is missing, and the last tag of a header that is read for it.
OPTIONAL = ("Modality", "BodyPartExamined", "ViewPosition", "PatientID", "BurnedInAnnotation")
HEADER_KEYWORDS = (*OPTIONAL, "StudyInstanceUID")
LAST_HEADER_TAG = 0x00280301  # BurnedInAnnotation
# Before the pixels, and by which they are shown.
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")  # vertical, horizontal
IMAGE_KEYWORDS = (
    *(*HEADER_KEYWORDS, *SPACINGS, "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)
LAST_BEFORE_PIXELS, PIXEL_DATA = 0x7FE00007, 0x7FE00010  # the floats of group 7FE0 are no X-rays

RADIOGRAPHY = ("CR", "DX")
CHEST = {"CHEST", "THORAX", "TORAX", "LUNG", "LUNGS"}
LATERAL = {"LATERAL", "LAT", "LL", "RL", "LLAT", "RLAT"}
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")  # the first has white as its lowest value
SQUARE = 1e-3  # deviation of an aspect ratio from 1 that is left as it is


class BadDicomError(ValueError):
    """What is wrong with a file, in words without a value of it."""


@dataclass(frozen=True)
class DicomHeader:
    """What a file states of its patient and view; an empty text is not stated."""

    patient: str
    study: str
    is_lateral: bool
    missing: tuple[str, ...]  # of ``OPTIONAL``


def read_header(entry: ArchiveEntry) -> DicomHeader:
    """Read a file's header without its pixels.

    Raises:
        ValueError: if it cannot be read as DICOM.
        UserError: as ``read_entry``.
    """
    with suppress(BadDicomError):  # a header that goes on after the start
        header, is_complete = _parse_header(read_start(entry, HEADER_START))
        if is_complete:
            return header
    return _parse_header(read_entry(entry))[0]


def decode_dicom(content: bytes) -> NDArray[Any]:
    """Decode a DICOM file as grey (h, w), as it is shown: black is 0, and the scale is used up.

    The modality's LUT or rescaling is applied, then the first VOI LUT or window. Where there is
    neither, the lowest value is black and the highest white. Padding is black. Pixels that are not
    square are resampled along their longer side.

    Returns:
        uint8 for up to 8 bits stored, else uint16.

    Raises:
        ValueError: if it is no single grey frame of a chest X-ray, may name the patient in its
            pixels or overlays, cannot be decoded, or has more than ``MAX_PIXELS`` pixels.
    """
    with _errors_without_values():
        file = _DicomFile(content)
        file.read(IMAGE_KEYWORDS, LAST_BEFORE_PIXELS)
        _refuse_kind(file)
        _refuse_format(file)
        return _to_square(_to_grey(_decode_stored(file), file), file.dataset)


def _parse_header(content: bytes) -> tuple[DicomHeader, bool]:
    """Return a header, and whether it ends within the content."""
    with _errors_without_values():
        file = _DicomFile(content)
        file.read(HEADER_KEYWORDS, LAST_HEADER_TAG)
        header = DicomHeader(
            patient=_text(file.dataset, "PatientID"),
            study=_text(file.dataset, "StudyInstanceUID"),
            is_lateral=bool(_words(file.dataset, "ViewPosition") & LATERAL),
            missing=tuple(keyword for keyword in OPTIONAL if not _text(file.dataset, keyword)),
        )
        return header, file.is_complete


class _DicomFile:
    """A file that is parsed in steps, each of which adds elements to ``dataset``."""

    def __init__(self, content: bytes) -> None:
        """Read the transfer syntax; a file without one counts as little endian."""
        self.dataset = Dataset()
        self.has_overlays = False
        self.is_complete = False  # whether the last step ended before the file did
        stream = _BoundedReader(content)
        read_preamble(stream, force=True)
        meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag.group != 2)
        self.syntax = uid.UID(meta.get("TransferSyntaxUID") or uid.ImplicitVRLittleEndian)
        if self.syntax == DEFLATED:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            stream = _BoundedReader(
                inflater.decompress(content[stream.tell() :], MAX_INFLATED_BYTES)
            )
            if inflater.unconsumed_tail:
                raise BadDicomError(f"it unpacks to more than {MAX_INFLATED_BYTES} bytes")
        self.stream = stream

    def read(self, keywords: tuple[str, ...], last_tag: int) -> None:
        """Parse on to the element after ``last_tag``, and keep those of the keywords."""

        def stop_when(tag: BaseTag, *_: object) -> bool:
            self.has_overlays |= tag.group & 0xFF01 == 0x6000
            self.is_complete = tag > last_tag
            return self.is_complete

        self.dataset.update(
            read_dataset(
                self.stream,
                self.syntax == uid.ImplicitVRLittleEndian,
                self.syntax != BIG_ENDIAN,
                stop_when=stop_when,
                specific_tags=[tag for tag in map(tag_for_keyword, keywords) if tag is not None],
            )
        )


class _BoundedReader(io.BytesIO):
    """A stream of which so many bytes are parsed at most, while others may be skipped."""

    left = MAX_HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a stream does.

        Raises:
            ValueError: if it was too much.
        """
        content = super().read(size)
        self.left -= len(content)
        if self.left < 0:
            raise BadDicomError(f"its header is of more than {MAX_HEADER_BYTES} bytes")
        return content


@contextmanager
def _errors_without_values() -> Iterator[None]:
    """Raise any error of the decoders as one without its text."""
    try:
        yield
    except BadDicomError:
        raise
    except Exception as error:  # a damaged file may raise any error
        raise BadDicomError(f"it cannot be decoded as DICOM ({type(error).__name__})") from error


def _text(dataset: Dataset, keyword: str) -> str:
    """Return an element's value as a text, empty if there is none."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _words(dataset: Dataset, keyword: str) -> set[str]:
    """Return the words of an element in capitals without accents."""
    plain = unicodedata.normalize("NFKD", _text(dataset, keyword).upper())
    return set(re.findall(r"[A-Z]+", "".join(filter(str.isascii, plain))))


def _refuse_kind(file: _DicomFile) -> None:
    """Refuse what is no chest radiograph, or may show the patient's name."""
    dataset = file.dataset
    words = _words(dataset, "BodyPartExamined")
    if _text(dataset, "Modality") not in ("", *RADIOGRAPHY):
        raise BadDicomError("its modality (0008,0060) is neither CR nor DX")
    if _text(dataset, "BodyPartExamined") and not words & CHEST:
        raise BadDicomError("its body part examined (0018,0015) is no chest")
    if _text(dataset, "BurnedInAnnotation").upper() == "YES":
        raise BadDicomError("its pixels hold burned-in text (0028,0301)")
    if file.has_overlays:
        raise BadDicomError("it has overlays (60xx), which may hold text")


def _refuse_format(file: _DicomFile) -> None:
    """Refuse what cannot be decoded to one grey image."""
    dataset = file.dataset
    if not file.is_complete or "Rows" not in dataset or "Columns" not in dataset:
        raise BadDicomError("it has no pixel data (7FE0,0010), or is cut off before it")
    if _text(dataset, "NumberOfFrames") not in ("", "0", "1"):
        raise BadDicomError("it has several frames (0028,0008)")
    if (
        dataset.get("SamplesPerPixel", 1) != 1
        or _text(dataset, "PhotometricInterpretation") not in MONOCHROME
    ):
        raise BadDicomError("it is not grey (0028,0004)")
    pixels = dataset.Rows * dataset.Columns
    if not 0 < pixels <= MAX_PIXELS:
        raise BadDicomError(f"{dataset.Columns} x {dataset.Rows} pixels are too many or none")
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    if (
        allocated not in (8, 16)
        or not 0 < stored <= allocated
        or dataset.get("HighBit", stored - 1) != stored - 1
    ):
        raise BadDicomError(
            "its bits (0028,0100 to 0028,0102) are not the lower 1 to 16 of 8 or 16"
        )
    if file.syntax not in (*NATIVE, *CODED, uid.RLELossless):
        raise BadDicomError("its transfer syntax (0002,0010) is not read")


def _decode_stored(file: _DicomFile) -> NDArray[Any]:
    """Decode the stored values (h, w), of 8 or 16 bits."""
    dataset = file.dataset
    file.stream.left = MAX_FILE_BYTES
    file.read(("PixelData",), PIXEL_DATA)
    if not dataset.get("PixelData"):
        raise BadDicomError("it has no pixel data (7FE0,0010), or is cut off within it")
    shape = dataset.Rows, dataset.Columns
    if file.syntax in NATIVE:
        if len(dataset.PixelData) < shape[0] * shape[1] * dataset.BitsAllocated // 8:
            raise BadDicomError("its pixel data is cut off")
    else:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        if file.syntax in CODED:
            if not frame.rstrip(b"\0\xff").endswith(END_OF_IMAGE):
                raise BadDicomError("its pixel data is cut off")
            if _coded_shape(frame) != (*shape, 1):
                raise BadDicomError("its pixel data is of another size than it states")
        # pydicom's decoder of RLE does not bound its memory, and for 12 bits it has none.
        is_deep = file.syntax == uid.JPEGExtended12Bit and dataset.BitsStored > 8
        if is_deep or file.syntax == uid.RLELossless:
            return _decode_by_gdcm(frame, dataset, file.syntax)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = file.syntax
    plugin = "pillow" if file.syntax in BY_PILLOW else ""
    stored: NDArray[Any] = pixel_array(dataset, raw=True, decoding_plugin=plugin)
    if stored.shape != shape or stored.dtype.itemsize > 2:
        raise BadDicomError("its pixel data is of another form than it states")
    return stored


def _coded_shape(frame: bytes) -> tuple[int, int, int]:
    """Return the rows, columns and components that a JPEG, JPEG-LS or JPEG 2000 stream states."""
    if frame.startswith(b"\xff\x4f\xff\x51"):
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        return bottom - top, right - left, struct.unpack_from(">H", frame, 40)[0]
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", frame, position)
        if marker in START_OF_FRAME:
            rows, columns, components = struct.unpack_from(">HHB", frame, position + 5)
            return rows, columns, components
        position += 2 + length


def _decode_by_gdcm(frame: bytes, dataset: Dataset, syntax: uid.UID) -> NDArray[Any]:
    """Decode a frame (h, w) by gdcm, whose memory is that of the image."""
    rows, columns, bits = dataset.Rows, dataset.Columns, dataset.BitsAllocated
    is_signed = dataset.PixelRepresentation
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    image.SetPhotometricInterpretation(grey)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    stored = dataset.BitsStored
    image.SetPixelFormat(gdcm.PixelFormat(1, bits, stored, stored - 1, is_signed))
    buffer = image.GetBuffer().encode("utf-8", "surrogateescape")  # bytes as SWIG's text
    values = np.frombuffer(buffer, f"<{'i' if is_signed else 'u'}{bits // 8}")
    unused = bits - stored
    return (values.reshape(rows, columns) << unused) >> unused


def _to_grey(stored: NDArray[Any], file: _DicomFile) -> NDArray[Any]:
    """Map stored values to what is shown, by a table of all values between the extremes."""
    dataset = file.dataset
    lowest, highest = int(stored.min()), int(stored.max())
    indices = np.subtract(stored, lowest, dtype=np.int32)
    values = np.arange(lowest, highest + 1)
    is_padding = _is_padding(values, dataset)
    is_used = np.bincount(indices.ravel(), minlength=len(values)).astype(bool) & ~is_padding
    if not is_used.any():
        raise BadDicomError("every pixel is padding")
    bits = 16 if dataset.BitsStored > 8 else 8
    grey = _apply_voi(_apply_modality(values, file), is_used, file, bits)
    white = 2**bits - 1
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = white - grey
    grey[is_padding] = 0
    return np.rint(np.clip(grey, 0, white)).astype(f"u{bits // 8}")[indices]


def _is_padding(values: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_]:
    """Return which of the stored values pad the image (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(len(values), bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = np.array([value, value if limit is None else limit], np.int64) % 2**16
    if dataset.PixelRepresentation:  # files write it as signed or not
        ends = (ends + 2**15) % 2**16 - 2**15
    return (values >= ends.min()) & (values <= ends.max())


def _apply_modality(values: NDArray[Any], file: _DicomFile) -> NDArray[Any]:
    """Return the values after the modality's LUT or rescaling (PS3.3 C.11.1)."""
    dataset = file.dataset
    if items := dataset.get("ModalityLUTSequence"):
        return _apply_lut(values, items[0], file.syntax)[0]
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return values * float(1 if slope is None else slope) + float(intercept or 0)


def _apply_voi(
    values: NDArray[Any], is_used: NDArray[np.bool_], file: _DicomFile, bits: int
) -> NDArray[np.float64]:
    """Return the grey of so many bits for the modality's values (PS3.3 C.11.2)."""
    dataset, white = file.dataset, 2**bits - 1
    if items := dataset.get("VOILUTSequence"):
        shown, depth = _apply_lut(values, items[0], file.syntax)
        return shown * (white / (2**depth - 1))
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        low, high = values[is_used].min(), values[is_used].max()
        return (values - low) * (white / max(high - low, 1e-9))
    # A window alone has black and white at the ends of what is stored.
    window = Dataset()
    window.add(dataset["WindowCenter"])
    window.add(dataset["WindowWidth"])
    if function := _text(dataset, "VOILUTFunction"):
        window.VOILUTFunction = function
    window.PhotometricInterpretation = "MONOCHROME2"
    window.BitsStored, window.PixelRepresentation = bits, 0
    with np.errstate(over="ignore"):  # of a steep sigmoid
        return np.asarray(apply_windowing(values, window), np.float64)


def _apply_lut(
    values: NDArray[Any], item: Dataset, syntax: uid.UID
) -> tuple[NDArray[np.float64], int]:
    """Return what a lookup table has for values, and its number of bits.

    pydicom's functions cut indices to the table's own type: a table of 8 bits with more than 256
    entries is read wrongly.
    """
    count, first, depth = item.LUTDescriptor
    data = item.LUTData
    if isinstance(data, bytes):
        order = ">" if syntax == BIG_ENDIAN else "<"
        data = np.frombuffer(data, "u1" if len(data) < 2 * (count or 2**16) else f"{order}u2")
    table = np.atleast_1d(np.asarray(data, np.float64))[: count % 2**16 or 2**16]
    indices = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)
    return table[indices], depth


def _to_square(grey: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Resample an image whose pixels are not square, along their longer side."""
    for keyword in SPACINGS:
        spacing = dataset.get(keyword)
        if spacing and len(spacing) == 2 and min(map(float, spacing)) > 0:
            ratio = float(spacing[0]) / float(spacing[1])
            break
    else:
        return grey
    if abs(ratio - 1) < SQUARE:
        return grey
    height, width = (
        round(side * max(r, 1)) for side, r in zip(grey.shape, (ratio, 1 / ratio), strict=True)
    )
    if height * width > MAX_PIXELS:
        raise BadDicomError(f"{width} x {height} square pixels are too many")
    image = Image.fromarray(grey.astype(np.float32))
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return np.rint(np.clip(resized, 0, np.iinfo(grey.dtype).max)).astype(grey.dtype)
