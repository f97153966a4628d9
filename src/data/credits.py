"""Origin and licence of each source's images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Credit:
    """Attribution that images, and the models trained on them, must carry."""

    source: str
    licence: str
    real: bool  # whether they show patients


CREDITS = {
    "phantom": Credit("procedural chest phantoms, not patients", "MIT", real=False),
    "kermany": Credit(
        "Kermany, Zhang and Goldbaum, Mendeley Data, doi:10.17632/rscbjbr9sj",
        "CC BY 4.0",
        real=True,
    ),
}
