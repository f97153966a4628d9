"""What the tests of training share."""

import numpy as np
import pytest
from numpy.typing import NDArray

from src.config.settings import Settings
from src.config.train import TrainSettings


@pytest.fixture
def settings(tiny_settings: Settings) -> TrainSettings:
    """The training of NORMAL."""
    return tiny_settings.train.normal


@pytest.fixture
def images() -> NDArray[np.uint8]:
    """Some to train on."""
    return np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8)
