"""The two studies of a search: the search itself, and the repetition of its best trials.

The names of both contain a digest of everything that a score depends on, except the machine and the
version of the code. Scores of different spaces, data or budgets therefore never share a study.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner

from ..common.errors import UserError
from ..config.search_space import configure, current
from ..config.settings import ClassName, Settings
from ..config.train import TrainSettings
from ..config.tune import Choice, Choices, Range
from .objective import OBJECTIVE, TrialError
from .sampler import SeededSampler
from .storage import Store, original_number, study_name
from .study import TrialLedger

# Parameters that no trial's score depends on. A study's name has the weights by their checksum.
FID_IRRELEVANT = {"iterations", "sample_size", "scores", "weights", "weights_sha256"}
TRAIN_IRRELEVANT = {"epochs", "samples"}
TUNE_IRRELEVANT = {
    "trials",
    "top_trials",
    "repeat_seeds",
    "heartbeat_timeout_seconds",
    "max_retries",
}
CURRENT_TRIAL = 0  # number of the trial that runs the current configuration
Kind = Literal["search", "pareto"]


@dataclass(frozen=True)
class Search:
    """The search for a better configuration of one class, or for its Pareto front."""

    settings: Settings
    label: ClassName
    kind: Kind
    data_checksum: str  # of the train images, their patients and classes
    weights_checksum: str  # of the feature extractor's file; empty if there is none

    @property
    def train(self) -> TrainSettings:
        """The current configuration."""
        return self.settings.train_of(self.label)

    @property
    def is_pareto(self) -> bool:
        """Whether compute is a second objective beside the excess."""
        return self.kind == "pareto"

    @property
    def name(self) -> str:
        """The study's name in the storage."""
        tune = self.settings.tune
        content = {
            "objective": OBJECTIVE,
            "tune": tune.model_dump(mode="json", exclude=TUNE_IRRELEVANT),
            "train": self.train.model_dump(mode="json", exclude=TRAIN_IRRELEVANT),
            "fid": self.settings.fid.model_dump(mode="json", exclude=FID_IRRELEVANT),
            "weights": self.weights_checksum,
            "size": self.settings.preprocess.image_size,
            "precision": self.settings.compute.precision,
            "collapse_batches": self.settings.train.collapse_patience,
            "data": self.data_checksum,
        }
        return study_name(self.label, self.kind, content)

    def open_study(self, store: Store) -> optuna.Study:
        """Open the study, or create it."""
        tune = self.settings.tune
        point = {name: encode(value) for name, value in current(self.train, tune.space).items()}
        pruner: BasePruner = NopPruner() if self.is_pareto else MedianPruner(tune.startup_trials)
        return optuna.create_study(
            storage=store.storage,
            study_name=self.name,
            directions=["minimize"] * (2 if self.is_pareto else 1),
            load_if_exists=True,
            sampler=SeededSampler([point], tune.startup_trials, tune.seed),
            pruner=pruner,
        )

    def ledger(self, study: optuna.Study) -> TrialLedger:
        """Read the ledger of the study, as it is now."""
        return TrialLedger.of(study, self.settings.tune.trials, self.settings.tune.max_retries)

    @property
    def space(self) -> Mapping[str, Range | Choices]:
        """The parameters that may change, by name, with their values."""
        return self.settings.tune.space

    def suggest(self, trial: optuna.Trial) -> None:
        """Let the sampler choose a value of each parameter in the space."""
        for name, values in self.space.items():
            suggest_value(trial, name, values)

    def configuration(self, params: Mapping[str, Any]) -> TrainSettings:
        """Return the settings that a trial's Optuna parameters stand for.

        Raises:
            TrialError: if the parameters contradict each other.
        """
        try:
            return configure(self.train, self.values(params), self.settings.preprocess.image_size)
        except ValueError as error:
            raise TrialError(str(error)) from error

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Decode a trial's Optuna parameters; the current configuration's values stay exact."""
        now = current(self.train, self.space)
        return {
            name: now[name] if value == encode(now[name]) else decode(self.space[name], value)
            for name, value in params.items()
        }

    def repetition(self, ledger: TrialLedger) -> "Repetition":
        """Return the repetition of the best trials and of the current configuration's trial."""
        best = [original_number(trial) for trial in ledger.ranked[: self.settings.tune.top_trials]]
        current_trial = [original_number(trial) for trial in ledger.trials[:1]]
        return Repetition(self, tuple(dict.fromkeys([*current_trial, *best])))


@dataclass(frozen=True)
class Repetition:
    """The best trials of a search with other seeds, since one lucky seed is not a result."""

    search: Search
    trial_numbers: Sequence[int]  # of the search

    @property
    def name(self) -> str:
        """The study's name in the storage."""
        seeds = self.search.settings.tune.repeat_seeds
        content = [self.search.name, list(self.trial_numbers), seeds]
        return study_name(self.search.label, "seeds", content)

    @property
    def points(self) -> list[dict[str, int]]:
        """Each trial with each seed; the search has used none of these seeds."""
        first = self.search.train.seed + 1
        seeds = range(first, first + self.search.settings.tune.repeat_seeds)
        return [{"trial": number, "seed": seed} for seed in seeds for number in self.trial_numbers]

    def open_study(self, store: Store) -> optuna.Study:
        """Open the study, or create it."""
        return optuna.create_study(
            storage=store.storage,
            study_name=self.name,
            load_if_exists=True,
            sampler=SeededSampler(self.points, 1, 0),
            pruner=NopPruner(),
        )

    def ledger(self, study: optuna.Study) -> TrialLedger:
        """Read the ledger of the study, as it is now."""
        return TrialLedger.of(study, len(self.points), self.search.settings.tune.max_retries)

    @staticmethod
    def suggest(trial: optuna.Trial) -> tuple[int, int]:
        """Return the number of the trial to repeat, and the seed."""
        highest = 2**32
        return trial.suggest_int("trial", 0, highest), trial.suggest_int("seed", 0, highest)


def open_finished_study(part: Search | Repetition, store: Store) -> optuna.Study:
    """Open the study of a search or repetition whose trials have all ended.

    Raises:
        UserError: if there is no such study or trials are left; none is created.
    """
    if part.name in optuna.get_all_study_names(store.storage):
        study = part.open_study(store)
        if part.ledger(study).is_finished:
            return study
    raise UserError(
        f"{part.name}: this study of the present parameters has not ended in this storage, and "
        "another configuration, space or budget has its own; search first: `python -m src.tune`"
    )


def encode(choice: Choice | list[str]) -> int | float | str:
    """Return a value as Optuna stores it: lists as JSON, everything else unchanged."""
    return json.dumps(list(choice)) if isinstance(choice, tuple | list) else choice


def decode(values: Range | Choices, value: Any) -> Any:
    """Invert ``encode``, and round numbers of a range as a person would write them.

    On a logarithmic scale three significant digits are left, on a linear one the decimals of a
    thousandth of the range.
    """
    if isinstance(values, Range):
        if values.whole:
            return value
        if values.log:
            return min(max(float(f"{value:.3g}"), values.low), values.high)
        digits = max(math.ceil(-math.log10((values.high - values.low) / 1000)), 0)
        return min(max(round(value, digits), values.low), values.high)
    return next(choice for choice in values if encode(choice) == value)


def suggest_value(trial: optuna.Trial, name: str, values: Range | Choices) -> Any:
    """Let the sampler choose a parameter's value, and return it decoded."""
    if not isinstance(values, Range):
        return decode(values, trial.suggest_categorical(name, [encode(c) for c in values]))
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return decode(values, trial.suggest_float(name, values.low, values.high, log=values.log))
