"""Leaving out generated images that lie as near to a train image as copies do."""

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
from .thresholds import Limits

PIXELS = "pixels"  # the space of grey values


def make_spaces(
    extractor: FeatureExtractor,
    batch: int,
    device: torch.device,
    on_batch: Callable[[int], None] = lambda images: None,
) -> Mapping[str, MakeSpace]:
    """The ways of measuring a distance to train images, by name.

    Args:
        extractor: of the features.
        batch: images that go through it at once.
        device: on which.
        on_batch: told of so many images done.
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
    """Tells which images the test of ``privacy`` takes for copies, in any space.

    Of real images of other patients as many as ``settings.quantile`` says would be taken for copies
    in each space, so some that are left out are none.
    """

    def __init__(
        self,
        train: ImageSet,
        spaces: Mapping[str, MakeSpace],
        settings: PrivacySettings,
        key: int,
    ) -> None:
        """Measure how near train images of other patients are, as ``privacy.find_copies`` does.

        Args:
            train: what the generator learnt from.
            spaces: how distances are measured.
            settings: sizes.
            key: with the settings' seed names the draw.

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
            self._spaces.append((space, Limits.of_train(baseline, settings.near_quantile)))

    def copies(self, images: Images) -> NDArray[np.bool_]:
        """Which of uint8 images (n, size, size) to leave out, (n,)."""
        found = np.zeros(len(images), dtype=bool)
        for space, limits in self._spaces:
            found |= limits.near(nearest_in(space, images, self._patients))
        return found


def workspace_filters(
    learnt_from: Mapping[str, str], privacy: PrivacySettings, fid: FidSettings, device: torch.device
) -> dict[str, CopyFilter]:
    """Measure a filter for each class from the train images that are prepared in the workspace.

    Args:
        learnt_from: by class, the SHA-256 of the images that its generator learnt from.
        privacy: sizes of the test.
        fid: names the features.
        device: on which they are computed.

    Raises:
        UserError: if a generator learnt from other images.
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
