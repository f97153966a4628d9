"""The two studies of a search: the search itself, and the repetition of its best trials.

Both are kept under names that follow from all that a score depends on but the machine and the
version of the code, so that scores of different spaces, data or budgets never meet.
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
from .objective import TrialError
from .sampler import GivenFirst
from .storage import Store, original, study_name
from .study import Account

# What no trial's score depends on; ``weights`` stands in a study's name by content.
FID_IRRELEVANT = {"iterations", "sample_size", "scores", "weights", "weights_sha256"}
TRAIN_IRRELEVANT = {"epochs", "samples"}
TUNE_IRRELEVANT = {
    "trials",
    "top_trials",
    "repeat_seeds",
    "heartbeat_timeout_seconds",
    "max_retries",
}
FIRST = 0  # number of the trial that is the current configuration
Kind = Literal["search", "pareto"]


@dataclass(frozen=True)
class Search:
    """What is searched for one class."""

    settings: Settings
    label: ClassName
    kind: Kind
    data: str  # names the train images
    weights: str  # as ``choice.weights_name`` tells it

    @property
    def train(self) -> TrainSettings:
        """The current configuration."""
        return self.settings.train_of(self.label)

    @property
    def pareto(self) -> bool:
        """Whether compute counts beside the distance."""
        return self.kind == "pareto"

    @property
    def name(self) -> str:
        """Of the study."""
        tune = self.settings.tune
        content = {
            "tune": tune.model_dump(mode="json", exclude=TUNE_IRRELEVANT),
            "train": self.train.model_dump(mode="json", exclude=TRAIN_IRRELEVANT),
            "fid": self.settings.fid.model_dump(mode="json", exclude=FID_IRRELEVANT),
            "weights": self.weights,
            "size": self.settings.preprocess.image_size,
            "precision": self.settings.compute.precision,
            "collapse_batches": self.settings.train.collapse_patience,
            "data": self.data,
        }
        return study_name(self.label, self.kind, content)

    def open(self, store: Store) -> optuna.Study:
        """The study, made if it is not there."""
        tune = self.settings.tune
        given = {name: encode(value) for name, value in current(self.train, tune.space).items()}
        pruner: BasePruner = NopPruner() if self.pareto else MedianPruner(tune.startup_trials)
        return optuna.create_study(
            storage=store.storage,
            study_name=self.name,
            directions=["minimize"] * (2 if self.pareto else 1),
            load_if_exists=True,
            sampler=GivenFirst([given], tune.startup_trials, tune.seed),
            pruner=pruner,
        )

    def account(self, study: optuna.Study) -> Account:
        """Of the study, as it stands now."""
        return Account.of(study, self.settings.tune.trials, self.settings.tune.max_retries)

    def point(self, trial: optuna.Trial) -> dict[str, Any]:
        """The values of a trial, by name."""
        return {name: suggest(trial, name, among) for name, among in self.space.items()}

    @property
    def space(self) -> Mapping[str, Range | Choices]:
        """What may change."""
        return self.settings.tune.space

    def configuration(self, params: Mapping[str, Any]) -> TrainSettings:
        """The settings of a trial with these parameters of Optuna's.

        Raises:
            TrialError: if they make no sense together.
        """
        try:
            return configure(self.train, self.values(params), self.settings.preprocess.image_size)
        except ValueError as error:
            raise TrialError(str(error)) from error

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values that parameters of Optuna's stand for, by name."""
        now = current(self.train, self.space)
        return {
            name: now[name] if value == encode(now[name]) else decode(self.space[name], value)
            for name, value in params.items()
        }

    def repetition(self, account: Account) -> "Repetition":
        """What is repeated when the search has ended: its best trials, and the first."""
        numbers = [original(trial) for trial in account.best()[: self.settings.tune.top_trials]]
        first = [original(trial) for trial in account.trials[:1]]
        return Repetition(self, tuple(dict.fromkeys([*first, *numbers])))


@dataclass(frozen=True)
class Repetition:
    """The best trials of a search with other seeds, since one lucky seed is not a result."""

    search: Search
    numbers: Sequence[int]  # trials of the search

    @property
    def name(self) -> str:
        """Of the study."""
        content = [self.search.name, list(self.numbers), self.search.settings.tune.repeat_seeds]
        return study_name(self.search.label, "seeds", content)

    @property
    def given(self) -> list[dict[str, int]]:
        """Every trial with every seed; seeds that the search did not choose by."""
        first = self.search.train.seed + 1
        seeds = range(first, first + self.search.settings.tune.repeat_seeds)
        return [{"trial": number, "seed": seed} for seed in seeds for number in self.numbers]

    def open(self, store: Store) -> optuna.Study:
        """The study, made if it is not there."""
        return optuna.create_study(
            storage=store.storage,
            study_name=self.name,
            load_if_exists=True,
            sampler=GivenFirst(self.given, 1, 0),
            pruner=NopPruner(),
        )

    def account(self, study: optuna.Study) -> Account:
        """Of the study, as it stands now."""
        return Account.of(study, len(self.given), self.search.settings.tune.max_retries)

    @staticmethod
    def point(trial: optuna.Trial) -> tuple[int, int]:
        """The trial that is repeated, and the seed."""
        most = 2**32
        return trial.suggest_int("trial", 0, most), trial.suggest_int("seed", 0, most)


def ended(part: Search | Repetition, store: Store) -> optuna.Study:
    """The study of a search or of its repetition, whose trials have all ended.

    Raises:
        UserError: if they have not; nothing is made.
    """
    if part.name in optuna.get_all_study_names(store.storage):
        study = part.open(store)
        if part.account(study).finished:
            return study
    raise UserError(
        f"{part.name}: this study of the present parameters has not ended in this storage; "
        "another configuration, space or budget has one of its own. Search first: "
        "`python -m src.tune`"
    )


def encode(choice: Choice | list[str]) -> int | float | str:
    """A value as Optuna keeps it: a list becomes its JSON."""
    return json.dumps(list(choice)) if isinstance(choice, tuple | list) else choice


def decode(among: Range | Choices, value: Any) -> Any:
    """The inverse of ``encode``; numbers of a range as a person would set them.

    To three digits, or to a thousandth of the range.
    """
    if isinstance(among, Range):
        if among.whole:
            return value
        if among.log:
            return min(max(float(f"{value:.3g}"), among.low), among.high)
        digits = max(math.ceil(-math.log10((among.high - among.low) / 1000)), 0)
        return min(max(round(value, digits), among.low), among.high)
    return next(choice for choice in among if encode(choice) == value)


def suggest(trial: optuna.Trial, name: str, among: Range | Choices) -> Any:
    """Let Optuna choose a value."""
    if not isinstance(among, Range):
        return decode(among, trial.suggest_categorical(name, [encode(c) for c in among]))
    if among.whole:
        return trial.suggest_int(name, int(among.low), int(among.high), log=among.log)
    return decode(among, trial.suggest_float(name, among.low, among.high, log=among.log))
