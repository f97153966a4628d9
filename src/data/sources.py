"""Sources of images: what each of them provides, and how they write images and records.

Whatever the source, the result is ``images/{train,test}/{NORMAL,PNEUMONIA}/<file>`` and a table
of those files. The rest of the pipeline does not depend on the source. A source is a module with a
``SourceReader``, and an entry of ``SOURCES`` in the registry that names it.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import UserError
from ..common.files import expand_user
from ..common.logging import logger
from ..config.data import DataSettings
from ..config.registry import SOURCES, load
from .checksum import check_source
from .decode import open_image


@dataclass(frozen=True)
class ImageRecord:
    """One row of the images' table; an unreadable image has width and height 0 and mode "".

    An image whose patient is not known is a patient of its own, which has the file's name.
    """

    file: str
    split: str
    label: str
    patient: str
    sha256: str
    width: int
    height: int
    mode: str

    @property
    def has_patient(self) -> bool:
        """Whether the patient is known."""
        return self.patient != self.file


@dataclass(frozen=True)
class SourceReader:
    """What a source provides; each function takes the data section first.

    A root is the folder that a relative ``data.path`` starts from.
    """

    # Writes the images below an existing empty folder: (settings, root, folder).
    collect: Callable[[DataSettings, Path, Path], Iterator[ImageRecord]]
    # Counts the train images of each class without decoding them: (settings, root).
    count_train: Callable[[DataSettings, Path], Mapping[str, int]]
    # Describes what shows that a file or folder is of this source; empty if it is not.
    recognise: Callable[[Path], str] = lambda path: ""
    # Finds what an earlier run downloaded.
    downloaded: Callable[[DataSettings], Path | None] = lambda settings: None
    # Describes what an empty ``data.path`` will download, as a sentence.
    describe_download: Callable[[DataSettings], str] = lambda settings: ""


def reader_of(settings: DataSettings) -> SourceReader:
    """Return the reader of the source that the settings name."""
    reader: SourceReader = load(SOURCES[settings.source])
    return reader


def recognise_source(path: Path) -> str:
    """Return the name of the first source that recognises a file or folder, and log why.

    Raises:
        UserError: if none does, or the file or folder is missing or unsafe.
    """
    for name, entry in SOURCES.items():
        if why := load(entry).recognise(path):
            logger.info(f"{path} is read as data.source={name}: {why}")
            return name
    raise UserError(
        f"{path} holds no images of a kind that is read; give a folder or zip archive of images, "
        "or a PneumoniaMNIST file (.npz)"
    )


def collect_images(settings: DataSettings, root: Path, folder: Path) -> Iterator[ImageRecord]:
    """Write the source's images below ``folder`` and yield a record of each.

    Args:
        settings: the data section.
        root: the folder that a relative ``data.path`` starts from.
        folder: an existing empty folder.

    Raises:
        UserError: if the source cannot be reached or used; no other source is tried.
    """
    yield from reader_of(settings).collect(settings, root, folder)


def resolve_path(
    settings: DataSettings,
    root: Path,
    download: Callable[[], Path] | None = None,
    beside: Sequence[Path] = (),
) -> Path:
    """Return the file or folder of ``data.path``, or the downloaded one.

    Its checksum is checked, with that of files beside it.

    Raises:
        UserError: if it is missing or has another checksum than ``data.sha256``.
    """
    if settings.path or download is None:
        path = root / expand_user(settings.path)
        if not path.exists():
            raise UserError(f"data.path: {path}: there is no such file or folder")
    else:
        path = download()
    if settings.sha256:
        check_source(path, settings.sha256, beside)
    return path


def write_image(
    folder: Path, split: str, label: str, name: str, content: bytes, patient: str
) -> ImageRecord:
    """Write one image file and return its record; only the header is decoded."""
    inner = f"{split}/{label}/{name}"
    file = folder / inner
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    try:
        with open_image(io.BytesIO(content)) as image:
            width, height, mode = image.width, image.height, image.mode
    except ValueError:
        width, height, mode = 0, 0, ""  # the stage preprocess applies on_bad_image to it
    return ImageRecord(
        file=inner,
        split=split,
        label=label,
        patient=patient,
        sha256=hashlib.sha256(content).hexdigest(),
        width=width,
        height=height,
        mode=mode,
    )


def write_numbered(
    folder: Path, split: str, label: str, number: int, content: bytes, patient: str = ""
) -> ImageRecord:
    """Write an image under a number, as sources do whose names are no one else's business.

    Args:
        folder: the folder of all images.
        split: its split.
        label: its class.
        number: its number, different from that of any other image of the split and class.
        content: a PNG file with nothing but pixels; empty if the image cannot be decoded, so that
            the stage preprocess applies ``on_bad_image`` to it.
        patient: the patient's name in the table; empty if it is not known.
    """
    name = f"{number:06d}.png"
    return write_image(folder, split, label, name, content, patient or f"{split}/{label}/{name}")
