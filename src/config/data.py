"""Settings of the images: where they come from and how they are prepared."""

from typing import Annotated, Literal

from pydantic import Field

from .base import Count, Section, Seed, Sha256


class PhantomSettings(Section):
    """How many phantoms are drawn, how large, and from which seed."""

    train_per_class: Count
    test_per_class: Count
    images_per_patient: Annotated[int, Field(ge=1, le=99)]
    image_size: Annotated[int, Field(ge=32, le=1024)]
    seed: Seed


class DataSettings(Section):
    """Where the images come from."""

    source: str
    path: str
    sha256: Sha256
    max_unpacked_gib: Annotated[float, Field(gt=0)]
    phantom: PhantomSettings


class PreprocessSettings(Section):
    """How an image file becomes a grey array."""

    image_size: Annotated[int, Field(ge=8, le=512)]
    resampling: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    min_side: Count
    on_bad_image: Literal["refuse", "skip"]
