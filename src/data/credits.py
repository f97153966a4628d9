"""Origin and licence of each source's images, and what readers must be told about them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Credit:
    """Attribution that images, and the models trained on them, must carry."""

    source: str
    licence: str
    real: bool  # whether they show patients
    notice: str  # first lines of the report and the model card


CREDITS = {
    "phantom": Credit(
        "procedural chest phantoms, not patients",
        "MIT",
        real=False,
        notice="The images are procedural phantoms, not patients. They show that the pipeline "
        "works, and nothing about real chest X-rays.",
    ),
    "kermany": Credit(
        "Kermany, Zhang and Goldbaum, Mendeley Data, doi:10.17632/rscbjbr9sj",
        "CC BY 4.0",
        real=True,
        notice="The generators were trained on chest X-rays of children. Read the result of the "
        "test for copies before you publish generated images. They are not for diagnosis.",
    ),
}
