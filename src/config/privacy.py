"""Settings of the test for copies of train images."""

from typing import Annotated

from pydantic import Field

from .base import Count, Section, Seed

Share = Annotated[float, Field(gt=0, lt=1)]
Rare = Annotated[float, Field(gt=0, le=0.25)]
Several = Annotated[int, Field(ge=2)]


class PrivacySettings(Section):
    """How many images the test compares, and when it speaks."""

    images: Several
    train_images: Several
    controls: Several
    quantile: Rare
    level: Share
    detectable_share: Share
    pairs: Count
    seed: Seed
