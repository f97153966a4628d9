"""Interface of feature extractors, and features of whole sets of images."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..common.cache import FileCache
from ..common.errors import UserError
from ..common.files import sha256_of_files

MAX_CACHE_BYTES = 2 << 30  # of all files; those used longest ago are removed first
# Files of this folder that compute features.
EXTRACTOR_CODE = (
    "classifier.py",
    "extractors.py",
    "features.py",
    "inception.py",
    "radiomics.py",
    "resizing.py",
)


class FeatureExtractor(Protocol):
    """Function from uint8 images to features."""

    @property
    def name(self) -> str:
        """Name of the extractor in params.yaml."""
        ...

    @property
    def dims(self) -> int:
        """Number of features."""
        ...

    @property
    def fingerprint(self) -> str:
        """Text that differs whenever the same code may compute other features of an image."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Compute float32 (n, dims) of uint8 images (n, h, w) on the extractor's device."""
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
    """Compute features, float32 (n, dims), of uint8 images (n, h, w).

    Float32 networks give slightly different features for different batch sizes, so every batch
    has ``batch`` images, the last one padded with black.

    Args:
        extractor: the network.
        images: an array, or a memory map, which is read batch by batch.
        batch: images that go through the network at once.
        device: the extractor's device.
        rows: indices of the images to compute features of; all images if None.
        on_batch: function that is called after each batch with its number of images.

    Raises:
        UserError: if the extractor does not give ``dims`` finite numbers for each image.
    """
    wanted = np.arange(len(images)) if rows is None else rows
    features = np.empty((len(wanted), extractor.dims), dtype=np.float32)
    for start in range(0, len(wanted), batch):
        part = torch.from_numpy(images[wanted[start : start + batch]])
        padded = F.pad(part, (0, 0, 0, 0, 0, batch - len(part)))
        with _whole_float32():
            computed = extractor(padded.to(device))
        if computed.shape != (batch, extractor.dims):
            raise UserError(
                f"dims: the {extractor.name} extractor gives {tuple(computed.shape)} for {batch} "
                f"images, not {extractor.dims} numbers for each"
            )
        features[start : start + len(part)] = computed[: len(part)].float().cpu().numpy()
        on_batch(len(part))
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise UserError(
            f"the {extractor.name} extractor gives features that are not finite, first of image "
            f"{wanted[bad[0]]}"
        )
    return features


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Compute a GPU's convolutions in float32; torch's default is the less precise TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class FeaturesOnce:
    """Features of images, computed once for each different image."""

    def __init__(self, extract: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> None:
        self._extract = extract
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features, float32 (n, dims), of one or more uint8 images (n, h, w)."""
        names = [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]
        new = {name: index for index, name in enumerate(names) if name not in self._known}
        if new:
            indices = np.array(list(new.values()))
            self._known |= dict(zip(new, self._extract(images[indices]), strict=True))
        return np.stack([self._known[name] for name in names])


class FeatureCache:
    """Folder of features, by the content of their images and the extractor.

    A set that was scored before needs no second pass through a large network.
    """

    def __init__(self, folder: Path) -> None:
        self._files = FileCache(folder, ".npy", MAX_CACHE_BYTES)

    def features(
        self,
        extractor: FeatureExtractor,
        images: NDArray[np.uint8],
        batch: int,
        device: torch.device,
        rows: NDArray[np.int64] | None = None,
        on_batch: Callable[[int], None] = lambda images: None,
    ) -> NDArray[np.float32]:
        """Return the features of ``extract_features`` from the cache; compute them if missing."""
        key = _key(extractor, images, batch, device, rows)
        features: NDArray[np.float32] | None = self._files.read(
            key, lambda file: np.load(file, allow_pickle=False)
        )
        if features is None:
            features = extract_features(extractor, images, batch, device, rows, on_batch)
            self._files.write(key, partial(np.save, arr=features))
        else:
            on_batch(len(features))
        return features


def _key(
    extractor: FeatureExtractor,
    images: NDArray[np.uint8],
    batch: int,
    device: torch.device,
    rows: NDArray[np.int64] | None,
) -> str:
    """Hash all that may change a digit of the images' features."""
    made_by = (_code(), extractor.fingerprint, batch, device.type, torch.get_num_threads())
    digest = hashlib.sha256(repr((made_by, torch.__version__, images.shape[1:])).encode())
    indices = np.arange(len(images)) if rows is None else rows
    for start in range(0, len(indices), batch):
        digest.update(np.ascontiguousarray(images[indices[start : start + batch]]).data)
    return digest.hexdigest()


@cache
def _code() -> str:
    """Return the SHA-256 of the code that computes features."""
    return sha256_of_files(Path(__file__).parent / name for name in EXTRACTOR_CODE)
