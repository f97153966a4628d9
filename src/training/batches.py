"""Real images, a batch at a time: from the device where they fit, else from the file."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHARE_OF_DEVICE = 0.5  # of a GPU's free memory that the images may take; the rest is for training


class RealImages:
    """The real images of a class.

    A GPU holds them if they take at most half of its free memory. Else, and on the CPU, every batch
    is gathered from the array; where that is a memory map, the system keeps what fits in memory.
    """

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        self._images, self._device = images, device
        self._resident: Tensor | None = None
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if images.nbytes <= SHARE_OF_DEVICE * free:
                self._resident = torch.from_numpy(np.array(images)).to(device)

    def batch(self, chosen: Tensor) -> Tensor:
        """The images at the places ``chosen``, int64 (n,): uint8 (n, size, size) on the device."""
        if self._resident is not None:
            return self._resident[chosen.to(self._device, non_blocking=True)]
        part = torch.from_numpy(self._images[chosen.numpy()])
        if self._device.type == "cuda":
            # From pinned memory the copy runs beside the training of the batch before.
            return part.pin_memory().to(self._device, non_blocking=True)
        return part
