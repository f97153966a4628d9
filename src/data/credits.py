"""Where the images of each source come from, and under which licence."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Credit:
    """What must be said of images, and of what was learnt from them."""

    source: str
    licence: str
    real: bool  # of patients


CREDITS = {
    "phantom": Credit("procedural chest phantoms, not patients", "MIT", real=False),
    "kermany": Credit(
        "Kermany, Zhang and Goldbaum, Mendeley Data, doi:10.17632/rscbjbr9sj",
        "CC BY 4.0",
        real=True,
    ),
}
