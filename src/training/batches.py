"""Batches of real images on the device: from its memory where they fit, else from the file."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_MEMORY_FRACTION = 0.5  # of a GPU's free memory for the images; the rest is for training


class BatchLoader:
    """Loader of batches of the real images of a class.

    A GPU holds all images if they take at most half of its free memory. Else, and on the CPU, every
    batch is gathered from the array; where that is a memory map, the system keeps what fits.
    """

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        """Copy ``images``, uint8 (n, size, size), to the device if they fit."""
        self._images, self._device = images, device
        self._resident: Tensor | None = None
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if images.nbytes <= MAX_MEMORY_FRACTION * free:
                self._resident = torch.from_numpy(np.array(images)).to(device)

    def load(self, indices: Tensor) -> Tensor:
        """Load the images at ``indices``, int64 (n,), as uint8 (n, size, size) on the device."""
        if self._resident is not None:
            return self._resident[indices.to(self._device, non_blocking=True)]
        batch = torch.from_numpy(self._images[indices.numpy()])
        if self._device.type == "cuda":
            # From pinned memory the copy runs beside the training of the batch before.
            return batch.pin_memory().to(self._device, non_blocking=True)
        return batch
