"""Settings of the test whether generated images improve a classifier."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from .base import Count, Probability, Section, Seed

Fraction = Annotated[float, Field(gt=0, le=1)]


class UtilitySettings(Section):
    """Sizes of the real sets, and the training of every classifier."""

    real_fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    repeats: Annotated[int, Field(ge=2)]
    image_size: Annotated[int, Field(ge=16)]
    training_steps: Count
    batch_size: Annotated[int, Field(ge=4, multiple_of=4)]
    learning_rate: Annotated[float, Field(gt=0)]
    validation_fraction: Annotated[Probability, Field(gt=0)]
    resamples: Annotated[int, Field(ge=10)]
    seed: Seed

    @model_validator(mode="after")
    def _fractions_make_sense(self) -> Self:
        if len(set(self.real_fractions)) < len(self.real_fractions):
            raise ValueError("fractions: the same one is named twice")
        if max(self.real_fractions) != 1:
            raise ValueError("fractions: 1.0, on which the verdict rests, must be among them")
        return self
