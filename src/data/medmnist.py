"""PneumoniaMNIST of MedMNIST: Kermany's images as arrays of 64, 128 or 224 pixels in one file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UserError
from ..common.progress import progress
from ..config.data import DataSettings
from .archive import GIB, list_entries
from .classes import CLASSES
from .decode import encode_png
from .download import MEDMNIST_MD5, download_medmnist, downloaded_medmnist
from .sources import ImageRecord, SourceReader, resolve_path, write_numbered

PARTS = {"train": ("train", "val"), "test": ("test",)}  # of the file, by split
# Published images of each class, val in train.
PUBLISHED_TRAIN = {"NORMAL": 1349, "PNEUMONIA": 3883}

Arrays = Mapping[str, NDArray[Any]]


def collect_medmnist(settings: DataSettings, root: Path, folder: Path) -> Iterator[ImageRecord]:
    """Write the file's images as PNG, numbered in the file's order; val becomes a part of train.

    The file does not state patients, so each image is a patient of its own.
    """
    path = _resolve(settings, root)
    with _open(path, settings) as arrays:
        for split, parts in PARTS.items():
            images = np.concatenate([_read(path, arrays, f"{part}_images") for part in parts])
            labels = _labels(path, arrays, split)
            _check(path, images, labels)
            rows = enumerate(zip(images, labels, strict=True))
            for number, (image, label) in progress(rows, f"writing {split}", len(images), "images"):
                yield write_numbered(folder, split, CLASSES[label], number, encode_png(image))


def count_medmnist_train_images(settings: DataSettings, root: Path) -> Mapping[str, int]:
    """Count the train images of each class; before the download those that are published."""
    if not settings.path and downloaded_medmnist(settings.medmnist.image_size) is None:
        return PUBLISHED_TRAIN
    path = _resolve(settings, root)
    with _open(path, settings) as arrays:
        labels = _labels(path, arrays, "train")
    return {label: int((labels == index).sum()) for index, label in enumerate(CLASSES)}


def _resolve(settings: DataSettings, root: Path) -> Path:
    """Return the file of ``data.path``, or the downloaded one."""
    return resolve_path(settings, root, lambda: download_medmnist(settings.medmnist.image_size))


def _open(path: Path, settings: DataSettings) -> Any:
    """Open the file, whose arrays are read when they are asked for, and check its names and size.

    Raises:
        UserError: if it is no such file, or unpacks to more than ``data.max_unpacked_gib``.
    """
    needed = {f"{part}_{kind}" for part in sum(PARTS.values(), ()) for kind in ("images", "labels")}
    if path.is_dir():
        raise UserError(f"data.path: {path} is a folder; give a PneumoniaMNIST file (.npz)")
    entries = list_entries(path, round(settings.max_unpacked_gib * GIB))
    missing = needed - {entry.path.stem for entry in entries}
    if missing:
        raise UserError(
            f"data.path: {path} is no PneumoniaMNIST file: it has no {', '.join(sorted(missing))}"
        )
    return np.load(path, allow_pickle=False)


def _read(path: Path, arrays: Arrays, name: str) -> NDArray[Any]:
    """Read one array of the file."""
    try:
        return arrays[name]
    except Exception as error:  # a damaged file may raise any error of the reader
        reason = " ".join(str(error).split())
        raise UserError(f"data.path: {path}: {name} cannot be read: {reason}") from error


def _labels(path: Path, arrays: Arrays, split: str) -> NDArray[Any]:
    """Read the labels of a split: (n,), indices of ``CLASSES``."""
    labels = [_read(path, arrays, f"{part}_labels") for part in PARTS[split]]
    for array in labels:
        is_binary = array.shape in ((len(array),), (len(array), 1)) and np.isin(array, (0, 1)).all()
        if not is_binary or not np.issubdtype(array.dtype, np.integer):
            raise UserError(
                f"data.path: {path} is no PneumoniaMNIST file: its labels are not 0 and 1 of one "
                "class an image"
            )
    return np.concatenate([array.reshape(-1) for array in labels])


def _check(path: Path, images: NDArray[Any], labels: NDArray[Any]) -> None:
    """Refuse images that are no grey squares of a known size, or not one a label."""
    sizes = list(MEDMNIST_MD5)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise UserError(
            f"data.path: {path}: its images must be uint8 of shape (n, size, size), not "
            f"{images.dtype} of shape {images.shape}"
        )
    if images.shape[1] not in sizes:
        raise UserError(
            f"data.path: {path} has images of {images.shape[1]} pixels; take the file of "
            f"{', '.join(map(str, sizes[:-1]))} or {sizes[-1]} (pneumoniamnist_{sizes[0]}.npz)"
        )
    if len(images) != len(labels) or len(np.unique(labels)) != len(CLASSES):
        raise UserError(
            f"data.path: {path}: {len(images)} images with {len(labels)} labels, of which "
            f"{int((labels == 0).sum())} are {CLASSES[0]}; each class needs images, and each image "
            "a label"
        )


def _describe_download(settings: DataSettings) -> str:
    """Describe the file that an empty ``data.path`` downloads."""
    size = settings.medmnist.image_size
    return f"PneumoniaMNIST of {size} pixels will be downloaded from Zenodo (record 10519652)"


MEDMNIST = SourceReader(
    collect_medmnist,
    count_medmnist_train_images,
    lambda path: "a file of arrays" if path.suffix.lower() == ".npz" and path.is_file() else "",
    lambda settings: downloaded_medmnist(settings.medmnist.image_size),
    _describe_download,
)
