"""How images are brought to the size and scale of the FID network, as its well-known ports do it.

The ports differ, and with them the features: each way has the name of the package whose scores it
gives. Each takes float32 (n, 1, h, w) in [0, 255] to (n, 1, SIZE, SIZE) in about [-1, 1]. Their
names stand in ``config.registry.RESIZES``.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIZE = 299  # pixels a side of what the network takes


def pytorch_fid(images: Tensor) -> Tensor:
    """As pytorch-fid: bilinear between the centres of pixels; [0, 255] becomes [-1, 1]."""
    x = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return x.div_(127.5).sub_(1)


def torch_fidelity(images: Tensor) -> Tensor:
    """As torch-fidelity: bilinear from pixels' corners as TensorFlow 1 does; (x - 128) / 128."""
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


def clean_fid(images: Tensor) -> Tensor:
    """As clean-fid: bicubic and antialiased by Pillow, in floating point; (x - 128) / 128."""
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
