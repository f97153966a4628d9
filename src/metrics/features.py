"""What every feature extractor offers, and how a set of images goes through one."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..common.errors import UserError
from ..common.files import atomic_write, remove_stale, sha256_of_files
from ..common.logging import logger

LARGEST_CACHE = 2 << 30  # bytes; what was used longest ago goes first
# Of this folder, what computes features.
CODE = ("classifier.py", "extractors.py", "features.py", "inception.py", "resizing.py")


class FeatureExtractor(Protocol):
    """From uint8 images to features."""

    @property
    def name(self) -> str:
        """As params.yaml names it."""
        ...

    @property
    def dims(self) -> int:
        """Width of the features."""
        ...

    @property
    def fingerprint(self) -> str:
        """A text that differs whenever the same code may give other features of an image."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (n, h, w) on the extractor's device to float32 (n, dims)."""
        ...


@torch.no_grad()
def extract_features(
    extractor: FeatureExtractor,
    images: NDArray[np.uint8],
    batch: int,
    device: torch.device,
    rows: NDArray[np.int64] | None = None,
    on_batch: Callable[[int], None] = lambda images: None,
) -> NDArray[np.float32]:
    """Features of uint8 images (n, h, w), as float32 of shape (n, dims).

    Float32 networks give slightly different features for different batch sizes, so every batch
    has ``batch`` images, the last one padded with black.

    Args:
        extractor: the network.
        images: an array, or a memory map, which is read batch by batch.
        batch: images that go through the network at once.
        device: the extractor's.
        rows: places of the images that are wanted; all of them if None.
        on_batch: told the images of each batch that is done.

    Raises:
        UserError: if the extractor does not give ``dims`` finite numbers for each image.
    """
    wanted = np.arange(len(images)) if rows is None else rows
    features = np.empty((len(wanted), extractor.dims), dtype=np.float32)
    for start in range(0, len(wanted), batch):
        part = torch.from_numpy(images[wanted[start : start + batch]])
        padded = F.pad(part, (0, 0, 0, 0, 0, batch - len(part)))
        with _whole_float32():
            found = extractor(padded.to(device))
        if found.shape != (batch, extractor.dims):
            raise UserError(
                f"dims: the {extractor.name} extractor gives {tuple(found.shape)} for {batch} "
                f"images, not {extractor.dims} numbers for each"
            )
        features[start : start + len(part)] = found[: len(part)].float().cpu().numpy()
        on_batch(len(part))
    if not np.isfinite(features).all():
        raise UserError(f"the {extractor.name} extractor gives features that are not finite")
    return features


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Let a GPU's convolutions keep all digits, which torch else shortens to TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class FeaturesOnce:
    """Features of images of which some come again: each different image is computed once."""

    def __init__(self, extract: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> None:
        self._extract = extract
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, h, w), one or more, to float32 (n, dims)."""
        names = [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]
        new = {name: place for place, name in enumerate(names) if name not in self._known}
        if new:
            places = np.array(list(new.values()))
            self._known |= dict(zip(new, self._extract(images[places]), strict=True))
        return np.stack([self._known[name] for name in names])


class FeatureCache:
    """Features by the content of their images and what made them, in a folder.

    A set that was judged once needs no second pass through a large network.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unpruned = LARGEST_CACHE  # bytes since it was looked after; others may have added

    def features(
        self,
        extractor: FeatureExtractor,
        images: NDArray[np.uint8],
        batch: int,
        device: torch.device,
        rows: NDArray[np.int64] | None = None,
        on_batch: Callable[[int], None] = lambda images: None,
    ) -> NDArray[np.float32]:
        """As ``extract_features``, or what that gave before."""
        file = self._folder / f"{_key(extractor, images, batch, device, rows)}.npy"
        try:
            found: NDArray[np.float32] = np.load(file, allow_pickle=False)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError) as error:
            logger.warning(f"{file} cannot be read ({error}); its features are computed again")
        else:
            with suppress(OSError):  # another user's, who alone may say that it is used
                file.touch()
            on_batch(len(found))
            return found
        found = extract_features(extractor, images, batch, device, rows, on_batch)
        try:
            with atomic_write(file) as fresh, fresh.open("wb") as stream:
                np.save(stream, found)
            self._unpruned += found.nbytes
            if self._unpruned > LARGEST_CACHE // 16:
                self._prune()
                self._unpruned = 0
        except OSError as error:
            logger.warning(f"{self._folder}: features are not kept there: {error.strerror}")
        return found

    def _prune(self) -> None:
        """Remove the files used longest ago until the rest is small enough."""
        remove_stale(self._folder)
        files = []
        for path in self._folder.glob("*.npy"):
            with suppress(FileNotFoundError):  # another process has just removed it
                files.append((path.stat(), path))
        files.sort(key=lambda item: item[0].st_mtime_ns, reverse=True)
        total = 0
        for status, path in files:
            total += status.st_size
            if total > LARGEST_CACHE:
                path.unlink(missing_ok=True)


def _key(
    extractor: FeatureExtractor,
    images: NDArray[np.uint8],
    batch: int,
    device: torch.device,
    rows: NDArray[np.int64] | None,
) -> str:
    """What names the features of images: all that may change a digit of them."""
    made_by = (_code(), extractor.fingerprint, batch, device.type, torch.get_num_threads())
    digest = hashlib.sha256(repr((made_by, torch.__version__, images.shape[1:])).encode())
    places = np.arange(len(images)) if rows is None else rows
    for start in range(0, len(places), batch):
        digest.update(np.ascontiguousarray(images[places[start : start + batch]]).data)
    return digest.hexdigest()


@cache
def _code() -> str:
    """Return the SHA-256 of the code that computes features."""
    return sha256_of_files(Path(__file__).parent / name for name in CODE)
