"""Make the candidate of each class its champion, if it is better: `make promote`.

The candidate is the generator of the last pipeline run. It becomes champion only if its Fréchet
distance is lower than the champion's, measured with the same images and features, and if no copies
of train images were found.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

from .common.errors import UserError, report_errors
from .common.logging import logger
from .common.paths import HOME
from .data.classes import CLASSES
from .tracking.outbox import count_waiting
from .tracking.registered_model import (
    CANDIDATE,
    CHAMPION,
    DISTANCE,
    JUDGED_BY,
    PRIVACY,
    ModelVersion,
    registered_name,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, promote one class or both, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m src.promote", description=__doc__)
    names = [label.lower() for label in CLASSES]
    parser.add_argument("--class", dest="label", choices=names, help="default: both")
    label: str | None = parser.parse_args(argv).label
    labels = CLASSES if label is None else (label.upper(),)
    return report_errors(lambda: promote(labels))


def promote(labels: Sequence[str]) -> None:
    """Point each class's champion alias to its candidate, if that is better.

    Raises:
        UserError: if a candidate is missing or must not become champion.
    """
    # Only here, since MLflow imports for seconds, and `--help` does not need it.
    from .tracking.registry import model_version, set_alias

    refused = []
    if waiting := count_waiting(HOME):
        logger.warning(
            f"{waiting} runs wait for MLflow, maybe with newer candidates: `make sync` first"
        )
    for label in labels:
        name = registered_name(label)
        candidate = model_version(HOME, name, CANDIDATE)
        if candidate is None:
            refused.append(f"{name}: it has no candidate; `dvc repro` with this store makes one")
            continue
        champion = model_version(HOME, name, CHAMPION)
        if champion is not None and champion.number == candidate.number:
            logger.info(f"{name}: version {champion.number} is the champion already")
            continue
        reason = reason_against(candidate.tags, None if champion is None else champion.tags)
        if reason is not None:
            refused.append(f"{name}, version {candidate.number}: {reason}")
            continue
        set_alias(HOME, name, CHAMPION, candidate)
        replaced = "" if champion is None else f", instead of {_describe(champion)}"
        logger.info(f"{name}: {_describe(candidate)} is the champion now{replaced}")
    if refused:
        raise UserError("not promoted: " + "; ".join(refused))


def reason_against(candidate: Mapping[str, str], champion: Mapping[str, str] | None) -> str | None:
    """Return why a candidate must not become champion, or None if it may.

    Args:
        candidate: tags of the candidate's version.
        champion: tags of the champion's version, if there is one.
    """
    if not candidate.keys() >= {PRIVACY, JUDGED_BY, DISTANCE}:
        return "it has no scores, so it is not of this pipeline"
    if candidate[PRIVACY] == "copies":
        return "it copies train images, see its model card"
    if champion is None:
        return None
    if candidate[JUDGED_BY] != champion.get(JUDGED_BY):
        return (
            "it was judged by other images, features or sizes than the champion, so their "
            "distances cannot be compared; judge both alike, or remove the champion's alias in the "
            "MLflow UI"
        )
    if float(candidate[DISTANCE]) >= float(champion[DISTANCE]):
        return (
            f"its distance {float(candidate[DISTANCE]):.4g} is not lower than the champion's "
            f"{float(champion[DISTANCE]):.4g}"
        )
    return None


def _describe(version: ModelVersion) -> str:
    """Return a version's number, distance and verdict on copies."""
    return (
        f"version {version.number} (distance {float(version.tags[DISTANCE]):.4g}, copies: "
        f"{version.tags[PRIVACY]})"
    )


if __name__ == "__main__":
    sys.exit(main())
