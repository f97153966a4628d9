"""Settings of the test whether generated images improve a classifier."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .base import Count, Probability, Section, Seed

Fraction = Annotated[float, Field(gt=0, le=1)]


Part = Annotated[float, Field(gt=0, lt=1)]
MIN_DRAWS = 5  # of patients, on which an interval can rest


class ScarcitySettings(Section):
    """The experiment with few real images, whose generators see no other ones."""

    enabled: bool
    fractions: Annotated[tuple[Part, ...], Field(min_length=1)]
    repeats: Annotated[int, Field(ge=MIN_DRAWS)]

    @model_validator(mode="after")
    def _no_level_twice(self) -> Self:
        _check_different("fractions", self.fractions)
        return self


class ImbalanceSettings(Section):
    """The experiment with few images of pneumonia, whose generator sees no other ones."""

    enabled: bool
    prevalences: Annotated[tuple[Part, ...], Field(min_length=1)]
    repeats: Annotated[int, Field(ge=MIN_DRAWS)]

    @model_validator(mode="after")
    def _no_level_twice(self) -> Self:
        _check_different("prevalences", self.prevalences)
        return self


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
    generator_images: Count
    added_shares: Annotated[tuple[Part, ...], Field(min_length=1)]
    added_filters: Annotated[tuple[Literal["none", "confident"], ...], Field(min_length=1)]
    scarcity: ScarcitySettings
    imbalance: ImbalanceSettings

    @model_validator(mode="after")
    def _fractions_make_sense(self) -> Self:
        _check_different("added_shares", self.added_shares)
        _check_different("added_filters", self.added_filters)
        if len(set(self.real_fractions)) < len(self.real_fractions):
            raise ValueError("fractions: the same one is named twice")
        if max(self.real_fractions) != 1:
            raise ValueError("fractions: 1.0, on which the verdict rests, must be among them")
        return self


def _check_different(name: str, values: tuple[object, ...]) -> None:
    """Raise ValueError if a value is named twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"{name}: the same one is named twice")
