"""Reader of a user's images from a folder, a zip archive or an array file."""

import io
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..common.errors import UserError
from ..common.progress import progress
from ..config.registry import EQUALIZATIONS, FITS, load
from .archive import list_entries, read_entry
from .decode import SUFFIXES, decode_grey
from .patients import patient_of

MAX_UNPACKED_BYTES = 64 << 30  # of all images


@dataclass(frozen=True)
class LoadedImages:
    """Grey images, uint8 (h, w) each, with their patients' ids.

    An image whose name states no patient counts as a patient of its own.
    """

    images: list[NDArray[np.uint8]]
    patient_ids: list[str]  # one an image
    skipped_files: int  # number of files without an image's suffix


def read_images(
    path: Path, size: int | None = None, fit: str = "stretch", equalize: str = "none"
) -> LoadedImages:
    """Read the images of a folder and its subfolders, a zip archive, or an array file as grey.

    Files are sorted by name. An array is uint8 of shape (n, h, w), (n, h, w, 1), (n, h, w, 3) or
    (n, 1 or 3, h, w), in a ``.npy`` file or in a ``.npz`` file for which ``holds_images`` is true.

    Args:
        path: the folder, zip archive or array file.
        size: width and height in pixels to resize to (Lanczos, antialiased); None keeps them.
        fit: what becomes of an image that is not square, a name in ``FITS``.
        equalize: what becomes of the contrast before that, a name in ``EQUALIZATIONS``.

    Raises:
        UserError: if a file cannot be read, which the message names, or if there is no image.
    """
    if path.suffix.lower() in (".npy", ".npz") and path.is_file():
        return _read_array_file(path, size, fit, equalize)
    if path.is_file() and not zipfile.is_zipfile(path):
        raise UserError(f"{path}: it is no folder, zip archive, .npy or .npz file")
    entries = list_entries(path, MAX_UNPACKED_BYTES)
    files = [entry for entry in entries if entry.path.suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(f"{path}: there is no image in it ({', '.join(SUFFIXES)})")
    images = []
    for entry in progress(files, f"reading {path.name}", len(files), "images"):
        stream = io.BytesIO(read_entry(entry))
        try:
            images.append(decode_grey(stream, 1, size, Image.Resampling.LANCZOS, fit, equalize))
        except ValueError as error:
            raise UserError(f"{path}: {entry.path} is no usable image: {error}") from error
    patient_ids = [patient_of(entry.path.as_posix()) for entry in files]
    return LoadedImages(images, patient_ids, len(entries) - len(files))


def holds_images(path: Path) -> bool:
    """Return whether a ``.npz`` file holds images: in ``arr_0``, or in its only array.

    NumPy gives the first name to an array without one, as tools that sample images leave it. A file
    with the array ``mu`` holds statistics, whatever else is in it.
    """
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return False
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
    return _images_name(names) is not None


def _images_name(names: Collection[str]) -> str | None:
    """Return the name of the array of images among those of a ``.npz`` file, or None."""
    if "mu" in names:
        return None
    return "arr_0" if "arr_0" in names else next(iter(names)) if len(names) == 1 else None


def _load_array(path: Path) -> NDArray[Any]:
    """Read the array of a ``.npy`` file, or the images' of a ``.npz`` file."""
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        name = _images_name(content.files)
        if name is None:
            raise TypeError("it is an archive of arrays; give one of them")
        array: NDArray[Any] = content[name]
    return array


def _read_array_file(path: Path, size: int | None, fit: str, equalize: str) -> LoadedImages:
    """Read the images of an array file; each counts as a patient of its own."""
    try:
        array = _load_array(path)
    except Exception as error:  # a damaged file may raise any error of the reader
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: the array cannot be read: {reason}") from error
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        array = np.moveaxis(array, 1, 3)
    has_known_shape = array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3))
    if array.dtype != np.uint8 or not has_known_shape or not array.size:
        raise UserError(
            f"{path}: an array of images must be uint8 of shape (n, h, w) or (n, h, w, 1 or 3), "
            f"not {array.dtype} of shape {array.shape}"
        )
    if array.ndim == 4 and array.shape[3] == 3:
        array = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in array])
    images = [load(EQUALIZATIONS[equalize])(image) for image in array.reshape(array.shape[:3])]
    if size is not None:
        images = [
            np.asarray(load(FITS[fit])(Image.fromarray(image), size, Image.Resampling.LANCZOS))
            for image in images
        ]
    return LoadedImages(images, [str(number) for number in range(len(images))], 0)
