"""How images are brought to the size and scale of the FID network, as its well-known ports do it.

The ports differ, and with them the features: each way has the name of the package whose scores it
gives.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIZE = 299  # pixels a side of what the network takes


def _by_halves(images: Tensor) -> Tensor:
    """pytorch-fid: bilinear between the centres of pixels; [0, 255] becomes [-1, 1]."""
    x = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return x.div_(127.5).sub_(1)


def _by_corners(images: Tensor) -> Tensor:
    """torch-fidelity: bilinear from the corners of pixels as TensorFlow 1 does; (x - 128) / 128."""
    rows, columns = (_weights_by_corners(size).to(images) for size in images.shape[2:])
    return (rows @ images @ columns.T).sub_(128).div_(128)


def _weights_by_corners(size: int) -> Tensor:
    """The share of each of ``size`` pixels in each new one, (SIZE, size)."""
    place = np.arange(SIZE, dtype=np.float64) * size / SIZE
    before = np.floor(place).astype(np.int64)
    after = np.minimum(before + 1, size - 1)
    weights = np.zeros((SIZE, size))
    new = np.arange(SIZE)
    np.add.at(weights, (new, before), 1 - (place - before))
    np.add.at(weights, (new, after), place - before)
    return torch.from_numpy(weights)


def _antialiased(images: Tensor) -> Tensor:
    """clean-fid: bicubic and antialiased by Pillow, in floating point; (x - 128) / 128."""
    large = [
        np.asarray(
            Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32
        )
        for image in images.squeeze(1).cpu().numpy().astype(np.float32)
    ]
    x = torch.from_numpy(np.stack(large)).clamp_(0, 255).unsqueeze(1)
    return x.to(images.device).sub_(128).div_(128)


# From float32 (n, 1, h, w) in [0, 255] to float32 (n, 1, SIZE, SIZE) about [-1, 1].
RESIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "pytorch-fid": _by_halves,
    "torch-fidelity": _by_corners,
    "clean-fid": _antialiased,
}

# What may have happened to the images of the thesis before its network scaled them once more.
SCALINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "standard": lambda images: images,
    "twice": lambda images: images / 127.5 - 1,
}
