"""The sampler of a study: given points first, then what Optuna's TPE proposes."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from ..common.rng import Stream, integer_seed
from .storage import (
    SURPLUS,
    original,
)

Point = Mapping[str, Any]


class GivenFirst(BaseSampler):
    """Tries given points first, by the order of the trials; then what Optuna's TPE proposes.

    That is a sampler after Bergstra et al., 2011: of all parameters together where there is one
    aim, of each by itself where there are two.

    A queue would be filled twice by two workers that begin at once; a trial's place is its own. Its
    number also names the random numbers, so that workers do not propose the same, and a search by
    one worker whose budget is in images comes out the same again.
    """

    def __init__(self, given: Sequence[Point], startup: int, seed: int) -> None:
        self._given, self._startup, self._seed = given, startup, seed
        self._tpe = self._for(0)

    def _for(self, number: int) -> TPESampler:
        seed = integer_seed(Stream.TUNE_SAMPLER, self._seed, number) % 2**32
        return TPESampler(n_startup_trials=self._startup, seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Take up the trial's random numbers."""
        self._tpe = self._for(original(trial))
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing for a trial that is given."""
        if place_of(study, trial) < len(self._given):
            return {}
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """As usual."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The given value, or one as usual."""
        place = place_of(study, trial)
        if place < len(self._given):
            return self._given[place][param_name]
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """As usual."""
        self._tpe.after_trial(study, trial, state, values)


def place_of(study: optuna.Study, trial: FrozenTrial) -> int:
    """How many trials began before a trial or, if it is a retry, before its first attempt.

    Retries have numbers as well, so this may be less than the number.
    """
    first = original(trial)
    return sum(
        other.number < first and original(other) == other.number and SURPLUS not in other.user_attrs
        for other in study.get_trials(deepcopy=False)
    )
