from pathlib import Path

import numpy as np
import torch

from src.training.batches import BatchLoader


def test_a_memory_map_gives_what_the_array_does(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    chosen = torch.tensor([7, 0, 7])
    for source in (images, mapped):
        found = BatchLoader(source, torch.device("cpu")).load(chosen)
        assert found.dtype == torch.uint8
        np.testing.assert_array_equal(found.numpy(), images[[7, 0, 7]])
