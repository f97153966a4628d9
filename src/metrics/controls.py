"""Perturbations of real images that a score of generated images must notice.

Each is a fault of generators: too little variety, one exposure, blur, or missing kinds of images. A
score is controlled between two sets of real images without a common patient, one of which is
perturbed: its mean over draws must rise with the dose.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from ..data.patients import Indices

Images = NDArray[np.uint8]
Features = NDArray[np.float64]


def shrink(features: Features, factor: float) -> Features:
    """Scale the differences of features (n, d) from their mean by ``factor``, 0 to 1."""
    mean = features.mean(axis=0, keepdims=True)
    return mean + factor * (features - mean)


def blend_with_mean(images: Images, factor: float) -> Images:
    """Scale the differences of images from the set's mean image by ``factor``, 0 to 1."""
    return _as_grey(shrink(images.reshape(len(images), -1) / 255, factor)).reshape(images.shape)


def equalize_exposure(images: Images, share: float) -> Images:
    """Move each image's mean and standard deviation towards the set's means of both.

    Args:
        images: uint8 (n, size, size).
        share: of the way; 1 gives all images one mean and one standard deviation, but for
            grey values that are cut off at black and white.
    """
    pixels = images.reshape(len(images), -1) / 255
    means, deviations = pixels.mean(axis=1, keepdims=True), pixels.std(axis=1, keepdims=True)
    new_means = means + share * (means.mean() - means)
    new_deviations = deviations + share * (deviations.mean() - deviations)
    scale = new_deviations / np.maximum(deviations, 1e-12)
    return _as_grey((pixels - means) * scale + new_means).reshape(images.shape)


def blur(images: Images, sigma: float) -> Images:
    """Blur images by a Gaussian with a standard deviation of ``sigma`` pixels."""
    return _as_grey(ndimage.gaussian_filter(images / 255, (0, sigma, sigma)))


def cluster(points: Features, clusters: int, rng: np.random.Generator) -> Indices:
    """Assign points (n, d) to clusters by k-means with k-means++, (n,)."""
    return np.asarray(kmeans2(points.astype(np.float64), clusters, minit="++", rng=rng)[1])


def _as_grey(values: NDArray[np.float64]) -> Images:
    """Convert grey values in [0, 1] to uint8; others are cut off."""
    return np.rint(values * 255).clip(0, 255).astype(np.uint8)
