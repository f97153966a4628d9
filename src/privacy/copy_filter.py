"""A filter that rejects generated images that lie as near to a train image as copies do."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.errors import UserError
from ..common.files import sha256_of_array
from ..common.logging import logger
from ..common.paths import HOME
from ..common.rng import Stream, numpy_stream
from ..config.fid import FidSettings
from ..config.privacy import PrivacySettings
from ..data.classes import CLASSES
from ..data.dataset import ImageSet, train_sets
from ..data.download import cache_folder
from ..metrics.extractors import choose_extractor
from ..metrics.features import FeatureCache, FeatureExtractor, FeaturesOnce
from .copy_test import check_patients, draw_baseline
from .neighbours import FeatureSpace, Images, MakeSpace, PixelSpace, nearest_in
from .thresholds import CopyThresholds

PIXELS = "pixels"  # the space of grey values


def make_spaces(
    extractor: FeatureExtractor,
    batch: int,
    device: torch.device,
    on_batch: Callable[[int], None] = lambda images: None,
) -> Mapping[str, MakeSpace]:
    """Return the spaces in which distances to train images are measured, by name.

    Args:
        extractor: the feature extractor.
        batch: images per batch of the extractor.
        device: the device that computes the features.
        on_batch: called with the number of images after each batch.
    """
    cache = FeatureCache(cache_folder() / "features")

    def features(images: Images) -> NDArray[np.float32]:
        return cache.features(extractor, images, batch, device, on_batch=on_batch)

    extract = FeaturesOnce(features)
    return {
        PIXELS: PixelSpace,
        f"{extractor.name} features": lambda references: FeatureSpace(extract, references),
    }


class CopyFilter:
    """Filter of images that the copy test counts as near to a train image, in any space.

    In each space a share ``settings.near_quantile`` of other patients' real images counts as near,
    so some of the rejected images are no copies.
    """

    def __init__(
        self,
        train: ImageSet,
        spaces: Mapping[str, MakeSpace],
        settings: PrivacySettings,
        key: int,
    ) -> None:
        """Measure the thresholds from train images, as ``copy_test.find_copies`` does.

        Args:
            train: the images that the generator was trained on.
            spaces: the spaces in which distances are measured.
            settings: the sizes and the quantile.
            key: names the random draw together with the settings' seed.

        Raises:
            UserError: if there are too few patients.
        """
        check_patients("train", train.patients)
        self._patients = train.patients
        self._spaces = []
        rows = draw_baseline(train, settings, numpy_stream(Stream.COPY_TEST, settings.seed, key))
        own = train.patients.ids[rows]
        for make_space in spaces.values():
            space = make_space(train.images)
            baseline = nearest_in(space, train.images[rows], train.patients, own)
            self._spaces.append((space, CopyThresholds.of_train(baseline, settings.near_quantile)))

    def copies(self, images: Images) -> NDArray[np.bool_]:
        """Return which of uint8 images (n, size, size) to reject, (n,)."""
        is_copy = np.zeros(len(images), dtype=bool)
        for space, thresholds in self._spaces:
            is_copy |= thresholds.near(nearest_in(space, images, self._patients))
        return is_copy


def workspace_filters(
    learnt_from: Mapping[str, str], privacy: PrivacySettings, fid: FidSettings, device: torch.device
) -> dict[str, CopyFilter]:
    """Build a filter for each class from the prepared train images of the workspace.

    Args:
        learnt_from: the SHA-256 of each class's images that its generator was trained on.
        privacy: the settings of the copy test.
        fid: the settings that name the feature extractor.
        device: the device that computes the features.

    Raises:
        UserError: if a generator was trained on other images.
    """
    real = train_sets()
    for label, checksum in learnt_from.items():
        if sha256_of_array(real[label].images) != checksum:
            raise UserError(
                f"--reject-copies: this generator did not learn from the {label} train images that "
                "are prepared here; `dvc repro preprocess` with its parameters prepares them"
            )
    extractor, _ = choose_extractor(fid, HOME, lambda: real, device)
    spaces = make_spaces(extractor, fid.batch_size, device)
    filters = {}
    for label in learnt_from:
        logger.info(f"{label}: measuring how near train images of other patients are")
        filters[label] = CopyFilter(real[label], spaces, privacy, CLASSES.index(label))
    return filters
