"""Thumbnails of images: grey values for scores whose features may be blind to exposure or pose."""

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.patients import Indices
from .extractors import PixelExtractor
from .features import extract_features

THUMBNAIL_PIXELS = 64  # 8 x 8
_BATCH = 100  # images that are reduced at once


def thumbnails(images: NDArray[np.uint8], rows: Indices | None = None) -> NDArray[np.float32]:
    """Reduce images, uint8 (n, h, w), or those at some rows, to 8 x 8 means of areas, (n, 64).

    Grey values are from 0 to 1.
    """
    extractor = PixelExtractor(THUMBNAIL_PIXELS)
    return extract_features(extractor, images, _BATCH, torch.device("cpu"), rows)
