"""Settings of the evaluation by distances between sets of features."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from .base import Count, Probability, Section, Seed, Sha256


class ClassifierSettings(Section):
    """The small CNN whose features can replace those of the Inception network."""

    channels: Annotated[tuple[Count, ...], Field(min_length=1, max_length=5)]
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]  # its batch normalisation needs two
    learning_rate: Annotated[float, Field(gt=0)]
    held_out_fraction: Annotated[Probability, Field(gt=0)]


class ScoreSettings(Section):
    """The scores of whole test sets."""

    max_images: Annotated[int, Field(ge=4)]
    nearest_k: Count
    resamples: Annotated[int, Field(ge=10)]


class FidSettings(Section):
    """Settings of the thesis's protocol, of the scores, and of the network for their features."""

    extractor: str
    dims: Annotated[int, Field(ge=2, le=4096)]
    weights: str
    weights_sha256: Sha256
    resize: str
    input_scaling: str
    batch_size: Count
    iterations: Annotated[int, Field(ge=2)]
    sample_size: Annotated[int, Field(ge=2)]
    seed: Seed
    scores: ScoreSettings
    classifier: ClassifierSettings

    @model_validator(mode="after")
    def _extractor_is_possible(self) -> Self:
        if self.extractor == "pixels" and round(self.dims**0.5) ** 2 != self.dims:
            raise ValueError("dims must be a square number with the pixels extractor")
        if self.extractor == "module" and not self.weights:
            raise ValueError("weights must name the module's file with the module extractor")
        return self
