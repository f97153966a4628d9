"""DICOM files for tests, encoded by pydicom, Pillow and gdcm."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import _gdcm.gdcmswig as gdcm  # before pydicom, as src.data.dicom does
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom._dicom_dict import DicomDictionary
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

ENCODED = (uid.JPEGLosslessSV1, uid.JPEGLossless, uid.JPEGLSLossless, uid.JPEG2000Lossless)
NEEDED = {  # in a file that names somebody, to be shown as others are
    *("SpecificCharacterSet", "Modality", "BodyPartExamined", "ViewPosition", "PixelAspectRatio"),
    *("ImagerPixelSpacing", "PixelSpacing", "SOPClassUID", "PatientID"),
}


class Tokens(NamedTuple):
    """What names somebody, each in a form that occurs by no chance."""

    name: str
    uid: str
    date: str
    number: str


def radiograph(shape: tuple[int, int] = (24, 20), bits: int = 12, seed: int = 0) -> NDArray[Any]:
    """Smooth values that use so many bits."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(rows / (3 + seed % 7) + seed) + np.cos(columns / (4 + seed % 5) - seed)
    scaled = (waves - waves.min()) / np.ptp(waves) * (2**bits - 1)
    return np.rint(scaled).astype(np.uint8 if bits <= 8 else np.uint16)


def dataset_of(pixels: NDArray[Any], bits: int | None = None, **tags: Any) -> Dataset:
    """A chest radiograph of the front with these pixels; a tag of None is left out."""
    dataset = Dataset()
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = uid.generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.SamplesPerPixel = 1
    stated = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA"}
    stated |= {"BurnedInAnnotation": "NO", "PatientID": "7", "StudyInstanceUID": "1.2.3"}
    stated["PhotometricInterpretation"] = "MONOCHROME2"
    for keyword, value in (stated | tags).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    return dataset


def dicom_bytes(
    pixels: NDArray[Any],
    bits: int | None = None,
    syntax: uid.UID = uid.ExplicitVRLittleEndian,
    frame: bytes = b"",
    **tags: Any,
) -> bytes:
    """The file of ``dataset_of``, whose pixel data is ``frame`` if that is given."""
    dataset = dataset_of(pixels, bits, **tags)
    if syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    if frame:
        dataset.PixelData = encapsulate([frame])
    return saved(dataset, syntax, is_undefined_length=bool(frame))


def saved(
    dataset: Dataset,
    syntax: uid.UID = uid.ExplicitVRLittleEndian,
    is_undefined_length: bool = False,
) -> bytes:
    """A dataset as a file."""
    dataset["PixelData"].is_undefined_length = is_undefined_length
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def encoded_by_gdcm(content: bytes, syntax: uid.UID, folder: Path) -> bytes:
    """A file with pixels compressed by gdcm."""
    source, target = folder / "plain.dcm", folder / "coded.dcm"
    source.write_bytes(content)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    kind = gdcm.TransferSyntax.GetTSType(str.__str__(syntax))
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target.read_bytes()


def planted_bytes(pixels: NDArray[Any], bits: int, tokens: Tokens) -> bytes:
    """A file that names somebody in each tag of pydicom's dictionary that has a text.

    But for those by which an image is shown or refused. Private tags, sequences, the preamble and
    what follows the pixels have the name too. The patient's id is the name and six zeros.
    """
    texts = dict.fromkeys(("PN", "LO", "SH", "ST", "LT", "UT", "UC", "AE", "CS", "UR"), tokens.name)
    texts |= {"UI": tokens.uid, "DA": tokens.date, "DT": f"{tokens.date}101010", "TM": "101010"}
    texts |= dict.fromkeys(("IS", "DS"), tokens.number)
    dataset = dataset_of(pixels, bits)
    for tag, (kind, _, _, _, keyword) in DicomDictionary.items():
        if tag >> 16 in (0x0000, 0x0002, 0x0028, 0xFFFE) or keyword in NEEDED:
            continue
        if kind in texts:
            dataset.add(DataElement(tag, kind, texts[kind], validation_mode=IGNORE))
        elif kind == "SQ":
            item = Dataset()
            item.PatientName = tokens.name
            dataset.add_new(tag, kind, [item])
    dataset.PatientID = f"{tokens.name}{0:06d}"
    for group in (0x0009, 0x0029, 0x7FE1):
        dataset.add_new((group, 0x0010), "LO", tokens.name)
        dataset.add_new((group, 0x1001), "LO", tokens.name)
        dataset.add_new((group, 0x1002), "OB", tokens.name.encode())
    dataset.add_new(0xFFFCFFFC, "OB", tokens.name.encode())
    content = saved(dataset)
    return tokens.name.encode().ljust(128, b"\0") + content[128:]
