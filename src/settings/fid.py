"""Settings of the evaluation by the Fréchet Inception Distance."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from src.settings.base import Count, Probability, Section, Seed, Sha256

INCEPTION_DIMS = (64, 192, 768, 2048)


class ClassifierSettings(Section):
    """The small CNN whose features stand in for the Inception network's."""

    channels: Annotated[tuple[Count, ...], Field(min_length=1, max_length=5)]
    epochs: Count
    batch: Count
    learning_rate: Annotated[float, Field(gt=0)]
    held_out: Annotated[Probability, Field(gt=0)]


class FidSettings(Section):
    """The thesis's protocol and the network whose features it compares."""

    extractor: Literal["classifier", "inception"]
    dims: Annotated[int, Field(ge=2, le=2048)]
    weights: str
    weights_sha256: Sha256
    batch: Count
    iterations: Annotated[int, Field(ge=2)]
    sample_size: Annotated[int, Field(ge=2)]
    seed: Seed
    classifier: ClassifierSettings

    @model_validator(mode="after")
    def _dims_exist(self) -> Self:
        if self.extractor == "inception" and self.dims not in INCEPTION_DIMS:
            known = ", ".join(str(dims) for dims in INCEPTION_DIMS)
            raise ValueError(f"dims must be one of {known} with the inception extractor")
        return self
