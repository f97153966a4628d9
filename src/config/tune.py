"""Settings of the search for better networks and trainings."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .base import Count, Probability, Section, Seed

Number = int | float
Choice = int | float | str | tuple[int, ...] | tuple[str, ...]  # a value of a parameter


class Range(Section):
    """All numbers between two limits, both included; whole numbers if both limits are whole."""

    low: Number
    high: Number
    log: bool  # whether to sample the logarithm evenly

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low, {self.low}, must be less than high, {self.high}")
        if self.log and self.low <= 0:
            raise ValueError("log: low must be above 0")
        return self

    @property
    def whole(self) -> bool:
        """Whether the range has whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Choices = Annotated[tuple[Choice, ...], Field(min_length=2)]


class TuneSettings(Section):
    """Budget and scoring of the search, and the space that it searches."""

    trials: Count
    budget: Annotated[float, Field(gt=0)]
    budget_unit: Literal["seconds", "images"]
    evaluations: Count
    startup_trials: Count
    held_out_fraction: Annotated[Probability, Field(gt=0, le=0.5)]
    max_images: Annotated[int, Field(ge=2)]
    top_trials: Count
    repeat_seeds: Count
    heartbeat_timeout_seconds: Annotated[int, Field(ge=2)]
    max_retries: Annotated[int, Field(ge=0)]
    seed: Seed
    space: Annotated[dict[str, Range | Choices], Field(min_length=1)]
