"""The feature extractor of the stages that judge by features."""

from typing import Any

import torch

from pipeline.stage import Stage
from src.common.paths import HOME
from src.data.dataset import train_splits
from src.metrics.extractors import choose_extractor
from src.metrics.features import FeatureExtractor


def stage_extractor(stage: Stage, device: torch.device) -> tuple[FeatureExtractor, dict[str, Any]]:
    """The extractor that the parameters name, and what should be said of it."""
    return choose_extractor(
        stage.settings.fid,
        HOME,
        train_splits(),
        device,
        lambda epoch, loss: stage.run.log_metrics({"classifier.loss": loss}, epoch),
    )
