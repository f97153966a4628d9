"""Resizing and scaling of images for the FID network, as its well-known ports do it.

The ports differ, and so do their features. Each function has the name of the package whose scores
it reproduces, and maps float32 (n, 1, h, w) in [0, 255] to (n, 1, SIZE, SIZE) in about [-1, 1]. The
names stand in ``config.registry.RESIZES``.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIZE = 299  # pixels a side of the network's input


def pytorch_fid(images: Tensor) -> Tensor:
    """Resize as pytorch-fid: bilinear between pixel centres; [0, 255] becomes [-1, 1]."""
    x = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return x.div_(127.5).sub_(1)


def torch_fidelity(images: Tensor) -> Tensor:
    """Resize as torch-fidelity: bilinear from pixel corners as TensorFlow 1; (x - 128) / 128."""
    rows, columns = (_weights_by_corners(size).to(images) for size in images.shape[2:])
    return (rows @ images @ columns.T).sub_(128).div_(128)


def _weights_by_corners(size: int) -> Tensor:
    """Return the weight of each of ``size`` pixels in each new pixel, (SIZE, size)."""
    position = np.arange(SIZE, dtype=np.float64) * size / SIZE
    before = np.floor(position).astype(np.int64)
    after = np.minimum(before + 1, size - 1)
    weights = np.zeros((SIZE, size))
    new = np.arange(SIZE)
    np.add.at(weights, (new, before), 1 - (position - before))
    np.add.at(weights, (new, after), position - before)
    return torch.from_numpy(weights)


def clean_fid(images: Tensor) -> Tensor:
    """Resize as clean-fid: bicubic and antialiased by Pillow, as floats; (x - 128) / 128."""
    large = [
        np.asarray(
            Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32
        )
        for image in images.squeeze(1).cpu().numpy().astype(np.float32)
    ]
    x = torch.from_numpy(np.stack(large)).clamp_(0, 255).unsqueeze(1)
    return x.to(images.device).sub_(128).div_(128)


def unchanged(images: Tensor) -> Tensor:
    """Return the images as they are."""
    return images


def scaled_again(images: Tensor) -> Tensor:
    """Scale a second time, as may have happened to the images of the thesis."""
    return images / 127.5 - 1
