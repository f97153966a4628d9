"""Settings of the test for copies of train images, and of the attack on membership."""

from typing import Annotated

from pydantic import Field

from .base import Count, Section, Seed

Share = Annotated[float, Field(gt=0, lt=1)]
TailFraction = Annotated[float, Field(gt=0, le=0.25)]
CountAboveOne = Annotated[int, Field(ge=2)]


class PrivacySettings(Section):
    """Numbers of images that the test compares, its thresholds, and the clean membership attack."""

    generated_images: CountAboveOne
    baseline_images: CountAboveOne
    control_images: CountAboveOne
    near_quantile: TailFraction
    significance_level: Share
    detectable_fraction: Share
    shown_pairs: Count
    membership: bool
    membership_images: CountAboveOne
    seed: Seed
