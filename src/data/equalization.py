"""Equalization of grey images, from their 8 or 16 bits to the 8 of the training.

A function takes grey (h, w), uint8 or uint16, and returns uint8 (h, w). It sees the original,
before it is resized. So its effect is independent of ``preprocess.image_size``, and 16 bits are
equalized as such: they have greys that 8 bits no longer tell apart.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1, 99)  # of an image's values, which become black and white


def keep(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Leave 8 bits as they are, and take the upper 8 of 16."""
    return pixels if pixels.dtype == np.uint8 else (pixels // 256).astype(np.uint8)


def clahe(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Equalize by contrast limited adaptive histograms (CLAHE), with scikit-image's defaults.

    Tiles have an eighth of the height and width, histograms 256 bins, and the clip limit is 0.01.
    A constant image stays constant.
    """
    if pixels.min() == pixels.max():
        return keep(pixels)  # else the library scales up its rounding errors
    from skimage.exposure import equalize_adapthist  # only here, since nothing else needs it

    return np.rint(equalize_adapthist(pixels) * 255).astype(np.uint8)


def percentile(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Rescale linearly from the 1st to the 99th percentile to the whole scale, and cut the rest."""
    limits = np.percentile(pixels, PERCENTILES)
    return np.rint(np.interp(pixels, limits, (0, 255))).astype(np.uint8)
