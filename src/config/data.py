"""Settings of the images' source and of their preprocessing."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .base import Count, Probability, Section, Seed, Sha256


class PhantomSettings(Section):
    """Number, size and seed of the phantoms."""

    train_per_class: Count
    test_per_class: Count
    images_per_patient: Annotated[int, Field(ge=1, le=99)]
    image_size: Annotated[int, Field(ge=32, le=1024)]
    seed: Seed


Patterns = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class ClassPatterns(Section):
    """Names, with wildcards, by which folders or labels belong to a class."""

    normal: Patterns
    pneumonia: Patterns

    def of(self, label: str) -> tuple[str, ...]:
        """Return the names of a class of ``data.classes.CLASSES``."""
        return self.normal if label == "NORMAL" else self.pneumonia


def _check_name(name: str) -> str:
    """Refuse a name that would not be shown as it is, in one line."""
    if not name.isprintable() or name != name.strip():
        raise ValueError("use one line, without control characters and without blanks at its ends")
    return name


DisplayName = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_check_name)]


class ClassNames(Section):
    """Names by which people know the classes."""

    normal: DisplayName
    pneumonia: DisplayName

    def by_class(self) -> dict[str, str]:
        """Return the name of each class of ``data.classes.CLASSES``."""
        return {"NORMAL": self.normal, "PNEUMONIA": self.pneumonia}


class TableSettings(Section):
    """A table of the images, and the names of its columns."""

    path: str
    image: str
    label: Annotated[str, Field(min_length=1)]
    label_separator: str
    patient: str
    split: str


class MedMnistSettings(Section):
    """Choice of the PneumoniaMNIST file."""

    image_size: Literal[64, 128, 224]


class DataSettings(Section):
    """Source of the images."""

    source: str
    path: str
    sha256: Sha256
    max_unpacked_gib: Annotated[float, Field(gt=0)]
    classes: ClassPatterns
    names: ClassNames
    table: TableSettings
    patient_pattern: str
    test_list: str
    test_share: Probability
    seed: Seed
    phantom: PhantomSettings
    medmnist: MedMnistSettings


class PreprocessSettings(Section):
    """Settings of the conversion of image files to grey arrays."""

    image_size: Annotated[int, Field(ge=8, le=512)]
    resampling: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    fit: str
    equalize: str
    min_side: Count
    on_bad_image: Literal["refuse", "skip"]
