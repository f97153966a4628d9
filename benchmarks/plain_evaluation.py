"""Scores and the FID network as their publications write them, term by term: the references.

Slow on purpose, and written apart from the library.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

Matrix = NDArray[np.float64]


def plain_frechet(x: Matrix, y: Matrix) -> float:
    """Heusel et al., 2017, eq. 6, with a matrix square root in float64."""
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s @ t)
    gap = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    return float(gap + np.trace(s) + np.trace(t) - 2 * np.trace(root).real)


def plain_kid(x: Matrix, y: Matrix) -> float:
    """Bińkowski et al., 2018, eq. 4, with the kernel of their section 3."""

    def kernel(a: Matrix, b: Matrix) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def plain_mmd(spaces: Sequence[tuple[Matrix, Matrix]]) -> float:
    """Gretton et al., 2012, eq. 3, with the mean of a Gaussian kernel in each space."""
    total = 0.0
    for x, y in spaces:
        n, m = len(x), len(y)
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        bandwidth = np.median([((x[i] - x[j]) ** 2).sum() for i, j in pairs])

        def kernel(a: Matrix, b: Matrix, bandwidth: float = float(bandwidth)) -> float:
            return float(np.exp(-((a - b) ** 2).sum() / (2 * bandwidth)))

        xx = sum(kernel(x[i], x[j]) for i, j in pairs) / (n * (n - 1))
        yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
        total += xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)
    return total / len(spaces)


def plain_balls(x: Matrix, y: Matrix, k: int) -> dict[str, float]:
    """Kynkäänniemi et al., 2019, eqs. 1 and 2, and Naeem et al., 2020, eqs. 3 and 4."""

    def radii(points: Matrix) -> list[float]:
        return [sorted(row)[k] for row in cdist(points, points).tolist()]

    between, of_x, of_y = cdist(x, y), radii(x), radii(y)
    n, m = between.shape
    inside = [[bool(between[i, j] <= of_x[i]) for j in range(m)] for i in range(n)]
    return {
        "precision": sum(any(inside[i][j] for i in range(n)) for j in range(m)) / m,
        "recall": sum(any(between[i, j] <= of_y[j] for j in range(m)) for i in range(n)) / n,
        "density": sum(inside[i][j] for i in range(n) for j in range(m)) / (k * m),
        "coverage": sum(any(row) for row in inside) / n,
    }


def plain_inception(weights: Mapping[str, Tensor], images: Tensor, dims: int) -> Tensor:
    """The FID network as a function of its weights: uint8 (n, h, w) to (n, dims), dims <= 768."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.conv.weight"]
        # Every layer with a stride and the first two plain ones are without padding.
        unpadded = stride > 1 or name in ("Conv2d_2a_3x3", "Conv2d_4a_3x3")
        padding = [0 if unpadded else side // 2 for side in kernel.shape[2:]]
        y = F.conv2d(x, kernel, None, stride, padding)
        mean, variance = weights[f"{name}.bn.running_mean"], weights[f"{name}.bn.running_var"]
        scale, shift = weights[f"{name}.bn.weight"], weights[f"{name}.bn.bias"]
        return F.relu(F.batch_norm(y, mean, variance, scale, shift, eps=0.001))

    def path(x: Tensor, block: str, *names: str) -> Tensor:
        for name in names:
            x = conv(x, f"{block}.branch{name}")
        return x

    def pooled(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    x = images[:, None].repeat(1, 3, 1, 1).float() / 255
    x = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False) * 2 - 1
    x = conv(conv(conv(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3"), "Conv2d_2b_3x3")
    x = F.max_pool2d(x, 3, 2)
    if dims == 64:
        return x.mean((2, 3))
    x = F.max_pool2d(conv(conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3"), 3, 2)
    if dims == 192:
        return x.mean((2, 3))
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        parts = [
            path(x, block, "1x1"),
            path(x, block, "5x5_1", "5x5_2"),
            path(x, block, "3x3dbl_1", "3x3dbl_2", "3x3dbl_3"),
            path(pooled(x), block, "_pool"),
        ]
        x = torch.cat(parts, 1)
    short = conv(x, "Mixed_6a.branch3x3", 2)
    long = conv(path(x, "Mixed_6a", "3x3dbl_1", "3x3dbl_2"), "Mixed_6a.branch3x3dbl_3", 2)
    x = torch.cat([short, long, F.max_pool2d(x, 3, 2)], 1)
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        parts = [
            path(x, block, "1x1"),
            path(x, block, "7x7_1", "7x7_2", "7x7_3"),
            path(x, block, *(f"7x7dbl_{number}" for number in range(1, 6))),
            path(pooled(x), block, "_pool"),
        ]
        x = torch.cat(parts, 1)
    return x.mean((2, 3))
