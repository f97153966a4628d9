"""Radiomic features, whose Fréchet distance is the Fréchet radiomic distance (FRD).

Konz, Osuala et al., Medical Image Analysis 2026 (arXiv 2412.01496), and frd-score, their package.
Of a grey image it computes 398 features: the first-order, GLCM, GLRLM, GLSZM and NGTDM features of
the image and of its four wavelet bands, 77 each, and 13 numbers about the image and its mask. The
mask is the whole image without one corner pixel. frd-score's settings name Laplacians of Gaussians
too, which pyradiomics leaves out of images of a single slice.

Standard deviations of the features lie between 3e-4 and 8e6 among X-rays, so a distance needs them
standardised (eq. 3 of the paper): each minus its mean, over its standard deviation, in a set of
real images. A distance is then one of a pair of sets, unless all distances share that set. Here
they do: the set is part of the extractor, as train images are part of the ``classifier``, and every
score, interval and floor takes the features like any others. ``src.evaluate`` standardises by REAL,
which gives frd-score's own distance; the pipeline standardises by train images of both classes.
frd-score returns the natural logarithm of the squared distance, which is the logarithm of the
Fréchet distance here.
"""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..common.errors import UserError
from ..common.processes import available_cores, init_worker, map_in_order, process_pool
from ..common.progress import Progress
from ..data.download import cache_folder
from .extractors import ExtractorInfo, ExtractorRequest
from .features import FeatureCache, FeatureExtractor, FeaturesOnce

PACKAGES = ("frd-score", "pyradiomics-bhklab", "SimpleITK")  # that determine the features
MAX_REFERENCE_IMAGES = 1000  # of each real set that features are standardised by
REFERENCE_BATCH = 50  # images between two updates of the progress
IMAGES_AHEAD = 4  # for each process


def open_radiomics(request: ExtractorRequest) -> tuple[FeatureExtractor, ExtractorInfo]:
    """Make the extractor, and compute the features of the real images that standardise it.

    Raises:
        UserError: if its packages are not installed, or an image has no radiomic features.
    """
    assert request.reference is not None
    raw = RadiomicsExtractor(request.dims)
    reference = _reference_features(raw, request.reference())
    return StandardizedExtractor(raw, reference), {"reference_images": len(reference)}


def _reference_features(
    raw: "RadiomicsExtractor", sets: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """Return the features of evenly spaced images of each set, from the cache if they are there."""
    files, device = FeatureCache(cache_folder() / "features"), torch.device("cpu")
    counts = [min(len(images), MAX_REFERENCE_IMAGES) for images in sets]
    with Progress("radiomics of real images", sum(counts), "images") as shown:
        parts = [
            files.features(
                raw,
                images,
                REFERENCE_BATCH,
                device,
                np.arange(count) * len(images) // count,
                shown.advance,
            )
            for images, count in zip(sets, counts, strict=True)
        ]
    return np.concatenate(parts)


class RadiomicsExtractor:
    """Extractor of frd-score's features as they are, computed on all cores.

    Each image's features depend on that image alone, whatever the number of processes. A flat
    image has no texture; its features are NaN.
    """

    name = "radiomics"

    def __init__(self, dims: int, processes: int | None = None) -> None:
        """Check that the packages are there; they are imported in the processes alone.

        Args:
            dims: number of features that frd-score computes.
            processes: number of processes; None is one for each core.

        Raises:
            UserError: if a package is not installed.
        """
        self.dims = dims
        self.fingerprint = f"radiomics {dims}, {_versions()}"
        self._processes = processes or available_cores()
        self._once = FeaturesOnce(self._compute)

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, dims), of uint8 images (n, h, w)."""
        return torch.from_numpy(self._once(images.cpu().numpy()))

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        """Processes that end with this one."""
        return process_pool(self._processes, _init_worker)

    def _compute(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of different images."""
        features = np.full((len(images), self.dims), np.nan, dtype=np.float32)
        (textured,) = np.nonzero(np.ptp(images, axis=(1, 2)))
        results = map_in_order(
            self._pool, _describe, images[textured], IMAGES_AHEAD * self._processes
        )
        for index, values in zip(textured, results, strict=True):
            if len(values) != self.dims:
                raise UserError(f"dims: frd-score gives {len(values)} features, not {self.dims}")
            features[index] = values
        return features


class StandardizedExtractor:
    """Extractor whose features are standardised by those of a reference set.

    A feature that is constant in the reference becomes 0, so it adds nothing to a distance.
    """

    def __init__(self, raw: FeatureExtractor, reference: NDArray[np.float32]) -> None:
        """Compute means and standard deviations of reference features, float32 (n, d)."""
        wide = reference.astype(np.float64)
        self.name, self.dims = raw.name, raw.dims
        self._raw = raw
        self._mean = wide.mean(axis=0)
        varies = np.ptp(wide, axis=0) > 0
        self._scale = np.where(varies, 1 / np.where(varies, wide.std(axis=0), 1), 0)
        checksum = hashlib.sha256(self._mean.tobytes() + self._scale.tobytes()).hexdigest()
        self.fingerprint = f"{raw.fingerprint}, standardised by {checksum}"

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, dims), of uint8 images (n, h, w)."""
        wide = self._raw(images).cpu().numpy().astype(np.float64)
        return torch.from_numpy(((wide - self._mean) * self._scale).astype(np.float32))


def _versions() -> str:
    """Return the names and versions of the packages.

    Raises:
        UserError: if one is not installed.
    """
    try:
        return ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    except PackageNotFoundError as error:
        raise UserError(
            f"the radiomics extractor needs {error.name}, which is not installed; "
            "pip install -c requirements-lock.txt -r requirements-radiomics.txt"
        ) from error


def _init_worker() -> None:
    """Prepare a process of the pool."""
    import SimpleITK

    init_worker()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the processes share the cores


@cache
def _describer() -> Callable[[Path], list[float]]:
    """Return frd-score's function of an image file, with its settings for two dimensions."""
    from frd_score import frd
    from radiomics import setVerbosity

    setVerbosity(logging.ERROR)  # it warns of each image that it is flat in the third dimension
    extractor = frd.get_feature_extractor(frd.FRD_VERSION_V1, image_dim=2)
    return lambda file: frd.process_image_mask_pair((file, None), feature_extractor=extractor)[0]


def _describe(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the features of one image, uint8 (h, w); frd-score reads it from a file."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        Image.fromarray(image).save(file, "png")
        file.flush()
        try:
            return np.array(_describer()(Path(file.name)), dtype=np.float32)
        except Exception as error:  # whatever the packages raise on an image that is nearly flat
            reason = " ".join(str(error).split())[-300:]
            raise UserError(f"frd-score failed on an image: {reason}") from error
