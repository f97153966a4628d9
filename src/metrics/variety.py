"""Variety of generated images beside that of equally many real train images.

A measure is one number of a set of images. It is given as the ratio of the generated set's number
to the real set's, so that 1 is the variety of real images; for some the numbers themselves stand
side by side. Names and words stand in ``config.registry.VARIETY``.

Even two sets of real images differ by chance. So beside each value stands the range of values that
two real halves without a common patient give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from PIL import Image

from ..common.rng import Stream, numpy_stream
from ..config.registry import VARIETY, load
from ..data.patients import Indices
from .frechet import Features
from .scores import FeatureSample

Images = NDArray[np.uint8]
Matrix = NDArray[np.float64]
MAX_IMAGES = 2000  # of a set; memory grows with the square, and time faster
MAX_SIDE = 64  # pixels; larger images are reduced, so that memory has a limit
DRAWS = 100  # pairs of halves that a range rests on
RANGE = (0.025, 0.975)  # quantiles over the draws
PAIRS = 500  # random pairs of images of a set, for MS-SSIM
# MS-SSIM (Wang et al., 2003): weights of the three finest scales of five, and of SSIM's window.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001)
WINDOW, WINDOW_SIGMA = 11, 1.5  # pixels
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True)
class PixelSample:
    """A set of images, the argument of every measure, with what its subsets share."""

    images: Images  # (n, side, side), n >= 2
    features: Features  # (n, dims)
    gram: Matrix  # (n, n), inner products of the images
    normalised_gram: Matrix  # (n, n), the same of ``normalise_exposure``
    pairs: Indices  # (p, 2), random pairs of different images
    similarities: Matrix  # (p,), MS-SSIM of the pairs

    @classmethod
    def of(cls, images: Images, features: Features, rng: np.random.Generator) -> PixelSample:
        """Compute inner products and similarities; memory grows with the square of n.

        Args:
            images: uint8, (n, side, side).
            features: float, (n, dims).
            rng: generator that draws the pairs.
        """
        n = len(images)
        rows = images.reshape(n, -1).astype(np.float64)
        normalised = normalise_exposure(rows)
        first = rng.integers(n, size=PAIRS)
        second = (first + rng.integers(1, n, size=PAIRS)) % n  # never the image itself
        return cls(
            images,
            features,
            rows @ rows.T,
            normalised @ normalised.T,
            np.stack([first, second], axis=1),
            multi_scale_ssim(images[first], images[second]),
        )

    def take(self, indices: Indices) -> PixelSample:
        """Return the images at ``indices``, with the pairs whose images are both among them."""
        block = np.ix_(indices, indices)
        place = np.full(len(self.images), -1)
        place[indices] = np.arange(len(indices))
        is_kept = (place[self.pairs] >= 0).all(axis=1)
        return PixelSample(
            self.images[indices],
            self.features[indices],
            self.gram[block],
            self.normalised_gram[block],
            place[self.pairs[is_kept]],
            self.similarities[is_kept],
        )


@dataclass(frozen=True)
class VarietyScore:
    """One measure of a generated set beside real train images."""

    measure: str
    value: float | None  # None where the real images have no variety at all
    real: float | None  # of the real set: 1 for a ratio
    low: float | None  # the range of real halves; None if there are no two
    high: float | None
    n: int  # images of each set
    range_n: int | None  # images of each real half

    def as_dict(self) -> dict[str, float | None]:
        """Return all but the measure's name."""
        return {name: value for name, value in asdict(self).items() if name != "measure"}


def score_variety(
    real: Images | Sequence[Images],
    fake: Images | Sequence[Images],
    features: tuple[FeatureSample, FeatureSample],
    max_images: int,
    seed: int,
) -> list[VarietyScore]:
    """Compute every measure of generated images, with the range that real halves give.

    The range is of halves of the real set. Halves differ more by chance than whole sets do: their
    range is wider by about the square root of 2.

    Args:
        real: uint8 images (h, w), two or more; those of several sizes are reduced to the smallest,
            and to ``MAX_SIDE`` pixels at most.
        fake: generated images, likewise. Of the larger set as many are drawn as the other has.
        features: of the real images, with their patients, and of the generated ones.
        max_images: maximum size of both sets, two or more.
        seed: of all draws.
    """
    # Draw equally many images, and reduce them to one size.
    n = min(len(real), len(fake), max_images)
    rng, pairs = (
        numpy_stream(stream, seed) for stream in (Stream.VARIETY_SUBSET, Stream.VARIETY_PAIRS)
    )
    side = min(min(image.shape) for images in (real, fake) for image in images)
    samples, patients = [], []
    for images, sample in zip((real, fake), features, strict=True):
        rows = np.sort(sample.patients.draw(n, rng)) if n < len(images) else np.arange(n)
        alike = np.stack(reduce_images([images[row] for row in rows], side))
        samples.append(PixelSample.of(alike, sample.features[rows], pairs))
        patients.append(sample.patients.take(rows))
    # Compute the measures, and those of pairs of real halves.
    of_real, of_fake = (_measure(sample) for sample in samples)
    size = min(patients[0].max_pair_size, n // 2)
    halves = numpy_stream(Stream.VARIETY_HALVES, seed)
    draws = []
    for _ in range(DRAWS if size >= 2 else 0):
        first, second = (
            _measure(samples[0].take(half)) for half in patients[0].disjoint_pair(size, halves)
        )
        draws.append(_relative(first, second))
    # Set each value beside the range of the draws.
    values, best = _relative(of_fake, of_real), _relative(of_real, of_real)
    scores = []
    for name in VARIETY:
        low, high = (
            _finite(np.quantile([draw[name] for draw in draws], edge)) if draws else None
            for edge in RANGE
        )
        pair = _finite(values[name]), _finite(best[name])
        scores.append(VarietyScore(name, *pair, low, high, n, size if draws else None))
    return scores


def _measure(sample: PixelSample) -> dict[str, float]:
    """Compute every measure of a set."""
    return {name: float(load(entry)(sample)) for name, entry in VARIETY.items()}


def _relative(values: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """Divide each measure that is a ratio by that of a reference; NaN where that is 0."""
    return {
        name: (value / reference[name] if reference[name] > 0 else np.nan)
        if VARIETY[name].is_ratio
        else value
        for name, value in values.items()
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def image_means(sample: PixelSample) -> float:
    """Compute the standard deviation of the images' means, the exposures."""
    return float(sample.images.mean(axis=(1, 2)).std(ddof=1))


def contrasts(sample: PixelSample) -> float:
    """Compute the standard deviation of the images' contrasts, their own standard deviations."""
    return float(sample.images.std(axis=(1, 2)).std(ddof=1))


def pixels(sample: PixelSample) -> float:
    """Compute the standard deviation of pixels over images: root of the covariance's trace."""
    return float(np.sqrt(_centred(sample.gram).trace() / (len(sample.gram) - 1)))


def normalised_pixels(sample: PixelSample) -> float:
    """Compute the standard deviation of pixels of images that are divided by their exposure."""
    gram = sample.normalised_gram
    return float(np.sqrt(_centred(gram).trace() / (len(gram) - 1)))


def normalised_dimensions(sample: PixelSample) -> float:
    """Compute the participation ratio ``tr(C)^2 / tr(C^2)`` of exposure-normalised images.

    C is their covariance. The ratio is k if the variance is spread evenly over k directions.
    """
    centred = _centred(sample.normalised_gram)  # its eigenvalues are those of (n - 1) C
    squares = float(np.square(centred).sum())
    return float(centred.trace()) ** 2 / squares if squares else 0.0


def features(sample: PixelSample) -> float:
    """Compute the root of the trace of the features' covariance."""
    return float(np.sqrt(sample.features.var(axis=0, ddof=1, dtype=np.float64).sum()))


def vendi(sample: PixelSample) -> float:
    """Compute the Vendi score of the images, 1 to n (Friedman and Dieng, 2023, definition 3.1).

    The exponential of the entropy of the eigenvalues of K / n. K is the linear kernel of unit
    vectors: of the images minus their own means, since grey levels, which are all positive, would
    make any two images alike. So K_ij is the correlation of two images. Where images have fewer
    pixels d than the set has images, the (d, d) matrix of the same non-zero eigenvalues is taken.
    """
    n, width = len(sample.images), sample.images[0].size
    kernel = sample.normalised_gram
    if n > width:
        rows = normalise_exposure(sample.images.reshape(n, width).astype(np.float64))
        kernel = rows.T @ rows
    values = scipy.linalg.eigvalsh(kernel, check_finite=False)
    shares = values[values > 0] / values[values > 0].sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def ms_ssim(sample: PixelSample) -> float:
    """Compute the mean MS-SSIM of random pairs of images (Odena et al., 2017, section 4.2).

    Near 1 if all images are alike.
    """
    return float(sample.similarities.mean()) if len(sample.similarities) else np.nan


def multi_scale_ssim(first: Images, second: Images) -> Matrix:
    """Compute MS-SSIM of pairs of uint8 images (n, side, side), as (n,) from 0 to 1.

    Wang et al., 2003 (eq. 7): products of contrast and structure at each scale, and of luminance
    at the coarsest. The weights of the three finest scales are divided by their sum. A scale
    that is smaller than SSIM's window is left out. Negative means become 0.
    """
    side = first.shape[1]
    scales = max(sum(side >> scale >= WINDOW for scale in range(len(SCALE_WEIGHTS))), 1)
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    x, y = first.astype(np.float64), second.astype(np.float64)
    result = np.ones(len(first))
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halved(x), _halved(y)
        luminance, structure = _ssim_maps(x, y)
        similarity = luminance * structure if scale == scales - 1 else structure
        result *= np.maximum(similarity.mean(axis=(1, 2)), 0) ** weight
    return result


def reduce_images(images: Sequence[Images], side: int = MAX_SIDE) -> list[Images]:
    """Reduce images (h, w) to squares of at most ``side`` pixels by area means, in uint8."""
    reduced = []
    for image in images:
        width = min(side, MAX_SIDE, *image.shape)
        if image.shape != (width, width):
            resized = Image.fromarray(image).resize((width, width), Image.Resampling.BOX)
            reduced.append(np.asarray(resized))
        else:
            reduced.append(image)
    return reduced


def normalise_exposure(rows: Matrix) -> Matrix:
    """Subtract each image's mean, and divide by its standard deviation, of (n, d) images.

    An image of one grey level becomes 0.
    """
    centred = rows - rows.mean(axis=1, keepdims=True)
    contrast = rows.std(axis=1, keepdims=True)
    return centred / np.where(contrast > 0, contrast, 1)


def _centred(gram: Matrix) -> Matrix:
    """Compute the inner products of rows minus their mean, from those of the rows, (n, n)."""
    means = gram.mean(axis=0)
    centred: Matrix = gram - means[:, None] - means[None, :] + means.mean()
    # What is left of equal rows is rounding.
    scale = np.finfo(np.float64).eps * 16 * max(float(gram.diagonal().max()), 0.0)
    return np.where(np.abs(centred) > scale, centred, 0.0)


def _halved(images: Matrix) -> Matrix:
    """Halve the side of images (n, side, side) by means of 2 x 2 pixels."""
    n, side = images.shape[0], images.shape[1] // 2
    cropped = images[:, : 2 * side, : 2 * side]
    return cropped.reshape(n, side, 2, side, 2).mean(axis=(2, 4))


def _ssim_maps(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """Compute SSIM's luminance, and its product of contrast and structure, at each window."""
    blur = _window_means(x.shape[1])
    mean_x, mean_y = blur @ x @ blur.T, blur @ y @ blur.T
    variances = blur @ (x * x + y * y) @ blur.T - mean_x**2 - mean_y**2
    covariance = blur @ (x * y) @ blur.T - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * covariance + C2) / (variances + C2)


def _window_means(side: int) -> Matrix:
    """Make the matrix (windows, side) that takes Gaussian means over windows of a row of pixels."""
    width = min(WINDOW, side)
    offsets = np.arange(width) - (width - 1) / 2
    weights = np.exp(-np.square(offsets) / (2 * WINDOW_SIGMA**2))
    weights /= weights.sum()
    windows = side - width + 1
    return np.stack([np.pad(weights, (row, windows - 1 - row)) for row in range(windows)])
