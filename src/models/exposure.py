"""The exposure of images: each image's mean grey value, and its contrast about that mean."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SEGMENTS = 32  # of the piecewise linear functions from normal scores to exposures,
MAX_SCORE = 3.0  # which are even between this many standard deviations on both sides
WIDTH = 2  # normal numbers that an exposure is drawn from
MIN_CONTRAST = 1e-4  # of an image in [-1, 1], so that a constant one can be divided by it


class Exposure(nn.Module):
    """Distribution of the exposures of a set of images, to draw new ones from.

    A Gaussian copula: two normal numbers with the correlation of the set's normal scores, each
    carried to the set's own distribution by its quantiles. So a drawn exposure lies within those
    of the set, and has their spread.
    """

    mean_quantiles: Tensor
    contrast_quantiles: Tensor
    correlation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_quantiles", torch.zeros(SEGMENTS + 1))
        self.register_buffer("contrast_quantiles", torch.ones(SEGMENTS + 1))
        self.register_buffer("correlation", torch.zeros(()))

    def fit(self, images: NDArray[np.uint8]) -> None:
        """Take the distribution of a set of images, uint8 (n, size, size), two or more."""
        from scipy.stats import norm, rankdata

        means, contrasts = measure_exposure(images)
        shares = norm.cdf(np.linspace(-MAX_SCORE, MAX_SCORE, SEGMENTS + 1))
        scores = [norm.ppf(rankdata(part) / (len(part) + 1)) for part in (means, contrasts)]
        spread = np.prod([np.std(part) for part in scores])
        correlation = np.mean(scores[0] * scores[1]) / spread if spread else 0.0
        for buffer, values in (
            (self.mean_quantiles, np.quantile(means, shares)),
            (self.contrast_quantiles, np.quantile(contrasts, shares)),
            (self.correlation, np.asarray(correlation)),
        ):
            buffer.copy_(torch.from_numpy(values))

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw exposures from N(0, 1) noise (n, 2): means and contrasts, each (n, 1, 1, 1)."""
        noise = noise.float()
        first = noise[:, :1]
        rest = (1 - self.correlation.square()).clamp(min=0).sqrt()
        second = self.correlation * first + rest * noise[:, 1:2]
        return (
            _from_quantiles(first, self.mean_quantiles).view(-1, 1, 1, 1),
            _from_quantiles(second, self.contrast_quantiles).view(-1, 1, 1, 1),
        )


def measure_exposure(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the means and contrasts, each (n,), of uint8 images scaled to [-1, 1]."""
    means, contrasts = np.empty(len(images)), np.empty(len(images))
    for index, image in enumerate(images):  # one by one, since they may be a memory map
        pixels = image / 127.5 - 1
        means[index], contrasts[index] = pixels.mean(), pixels.std()
    return means, np.maximum(contrasts, MIN_CONTRAST)


def standardise(images: Tensor) -> Tensor:
    """Shift and scale each image (n, 1, h, w) to mean 0 and standard deviation 1, in float32."""
    centred = images.float()
    centred = centred - centred.mean((1, 2, 3), keepdim=True)
    return centred * (centred.square().mean((1, 2, 3), keepdim=True) + MIN_CONTRAST**2).rsqrt()


def _from_quantiles(normal: Tensor, quantiles: Tensor) -> Tensor:
    """Carry N(0, 1) numbers (n, 1) to the distribution with these quantiles at even scores."""
    position = (normal + MAX_SCORE) * (SEGMENTS / (2 * MAX_SCORE))
    covered = (position - torch.arange(SEGMENTS, device=normal.device)).clamp(0, 1)
    return quantiles[0] + covered @ quantiles.diff()
