"""Adopting a trial: its configuration is written into params.yaml."""

from ..common.errors import UserError
from ..common.files import write_file
from ..common.logging import logger
from ..common.paths import PARAMS
from ..config.edit import changed_leaves, difference, edited
from ..config.search_space import UNSEARCHED
from ..config.settings import read_settings
from ..config.train import TrainSettings
from .result import SearchResult
from .storage import original_number


def apply_trial(result: SearchResult, written: TrainSettings, number: int | None) -> None:
    """Write a trial's configuration into params.yaml and print the difference.

    Args:
        result: of the search.
        written: the class's settings in params.yaml when the search began, without overrides.
            Parameters that a search cannot choose, and lines edited since, keep their values.
        number: of the trial; None for the best one.

    Raises:
        UserError: if params.yaml would become invalid, such as with several processes, or if
            settings of the other class would change too because both share a YAML anchor.
    """
    label, trial = result.search.label, result.chosen_trial(number)
    exclude = set(UNSEARCHED)
    changes = changed_leaves(
        written.model_dump(mode="json", exclude=exclude),
        result.configuration(trial).model_dump(mode="json", exclude=exclude),
    )
    wanted = {f"train.{label}.{name}": value for name, value in changes.items()}
    before = PARAMS.read_text(encoding="utf-8")
    after = edited(before, wanted)
    if before == after:
        logger.info(f"{label}: params.yaml has this configuration already")
        return
    old, new = (
        read_settings(text, PARAMS.name).model_dump(mode="json") for text in (before, after)
    )
    if others := sorted(changed_leaves(old, new).keys() - wanted.keys()):
        raise UserError(
            f"--apply: writing train.{label} would change {', '.join(others)} too; write out what "
            "params.yaml shares by an anchor"
        )
    write_file(PARAMS, after)
    logger.info(difference(before, after, "params.yaml"))
    number = original_number(trial)
    logger.info(f"{label}: trial {number} is in params.yaml; `dvc repro` trains it in full")
