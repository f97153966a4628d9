import numpy as np
import torch
from torch import Tensor

from src.evaluation.features import extract_features


class Sizes:
    """Notes the batches that it is given."""

    name = "sizes"
    dims = 2

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return images.flatten(1)[:, :2].float()


def test_every_batch_is_of_one_size_and_padding_does_not_show(cpu: torch.device) -> None:
    images = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2)
    extractor = Sizes()
    features = extract_features(extractor, images, 3, cpu)
    assert extractor.batches == [3, 3, 3]
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, images.reshape(7, 4)[:, :2])
