"""The sampler of a study: initial points first, then what Optuna's TPE proposes."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from ..common.rng import Stream, integer_seed
from .storage import SURPLUS, original_number

Point = Mapping[str, Any]


class SeededSampler(BaseSampler):
    """Tries initial points in the order of the trials, then proposes points by Optuna's TPE.

    TPE is the tree-structured Parzen estimator of Bergstra et al., 2011. Optuna models all
    parameters jointly where there is one objective, and each by itself where there are two.

    Two workers that begin at once would both enqueue the initial points, so a trial takes its point
    by its own position instead. The trial's number also seeds its random numbers. Workers thus
    never propose the same point, and a search by one worker with a budget in images is
    reproducible.
    """

    def __init__(self, points: Sequence[Point], startup_trials: int, seed: int) -> None:
        self._points, self._startup_trials, self._seed = points, startup_trials, seed
        self._tpe = self._make_tpe(0)

    def _make_tpe(self, number: int) -> TPESampler:
        seed = integer_seed(Stream.TUNE_SAMPLER, self._seed, number) % 2**32
        return TPESampler(n_startup_trials=self._startup_trials, seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed TPE with the trial's number; a retry gets its first attempt's random numbers."""
        self._tpe = self._make_tpe(original_number(trial))
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return TPE's joint search space, which is empty for a trial with an initial point."""
        if queue_position(study, trial) < len(self._points):
            return {}
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return TPE's values for the joint search space."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the initial point's value of a parameter or, after the initial points, TPE's."""
        position = queue_position(study, trial)
        if position < len(self._points):
            return self._points[position][param_name]
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Pass the trial's result on to TPE."""
        self._tpe.after_trial(study, trial, state, values)


def queue_position(study: optuna.Study, trial: FrozenTrial) -> int:
    """Count the trials that began before this one or, for a retry, before its first attempt.

    Retries and surplus trials do not count, so the position may be less than the trial's number.
    """
    number = original_number(trial)
    return sum(
        other.number < number
        and original_number(other) == other.number
        and SURPLUS not in other.user_attrs
        for other in study.get_trials(deepcopy=False)
    )
