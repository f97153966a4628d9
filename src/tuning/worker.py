"""A worker: a process that tries trials of a search until all have been tried."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from threadpoolctl import threadpool_limits

from ..common.devices import Compute, choose_compute
from ..common.processes import end_with_parent
from ..config.settings import ClassName, Settings, flatten
from ..config.train import TrainSettings
from ..data.dataset import train_sets
from ..data.download import cache_folder
from ..metrics.extractors import choose_extractor
from ..metrics.features import FeatureCache, extract_features
from ..models.flops import forward_flops
from ..report.grids import tile
from ..tracking.runs import Run, end_run, start_run
from .objective import Budget, Check, Judge, Split, TrialError, hold_out, run_trial
from .search import FIRST, Repetition, Search
from .storage import open_store, original
from .study import work_on

RUN = "mlflow_run"  # attribute of a trial: the id of its run
SHOWN, COLUMNS = 32, 8  # generated images of a trial in the tracker


@dataclass(frozen=True)
class Job:
    """What a worker is to do."""

    search: Search
    place: str  # of the storage
    root: Path  # where the default tracking store lies
    parent: str | None  # id of the run of the study
    cores: tuple[int, ...]
    gpu: str | None  # as CUDA_VISIBLE_DEVICES has it


def shares(workers: int) -> list[tuple[tuple[int, ...], str | None]]:
    """The cores, and the GPU if there are any, of each worker of this host.

    With more workers than cores, or GPUs, some have the same one.
    """
    cores = sorted(os.sched_getaffinity(0))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = torch.cuda.device_count()  # without touching them
    gpus = named.split(",")[:found] if named else [str(number) for number in range(found)]
    each = max(len(cores) // workers, 1)
    return [
        (
            tuple(cores[(number * each + i) % len(cores)] for i in range(each)),
            gpus[number % len(gpus)] if gpus else None,
        )
        for number in range(workers)
    ]


def work(job: Job) -> None:
    """Do a job, in a process of its own; for ``multiprocessing``."""
    end_with_parent()
    os.sched_setaffinity(0, job.cores)
    if job.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = job.gpu
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with threadpool_limits(len(job.cores)):
        _Worker(job).run()


def judged_by(
    label: ClassName, split: Split, settings: Settings, root: Path, device: torch.device
) -> tuple[NDArray[np.uint8], Judge]:
    """The images of a class to train on, and the judge, with the extractor of the parameters."""
    extractor, _ = choose_extractor(settings.fid, root, lambda: split.train, device)
    cache, batch = FeatureCache(cache_folder() / "features"), settings.fid.batch_size
    judge = Judge.of_class(
        label.upper(),
        split,
        lambda images: cache.features(extractor, images, batch, device),
        lambda images: extract_features(extractor, images, batch, device),
        settings.tune.seed,
    )
    return split.train[label.upper()].images, judge


class _Worker:
    def __init__(self, job: Job) -> None:
        self._job, self._search = job, job.search
        settings = job.search.settings
        tune = settings.tune
        self._compute: Compute = choose_compute(settings.compute)
        self._store = open_store(job.place, tune.max_retries, tune.heartbeat_timeout_seconds)
        self._store.on_cut = self._end_run_of
        self._budget = Budget(tune.budget, tune.budget_unit, tune.evaluations)
        self._stops: list[int] = []

    def _should_stop(self) -> bool:
        return bool(self._stops)

    def run(self) -> None:
        """Search; then repeat the best trials."""
        tune = self._search.settings.tune
        study = self._search.open(self._store)
        if not self._is_done(study):
            self._judged_by  # noqa: B018, what it refuses shall cost no trial
        # From here on a trial or a lock of the storage may be held, so no exception out of nowhere.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: self._stops.append(number))
        work_on(study, self._store, tune.trials, self._try_new, self._should_stop)
        if self._search.pareto:
            return
        account = self._search.account(study)
        if not account.complete:
            return
        repetition = self._search.repetition(account)
        self._tried = {original(trial): trial for trial in account.trials}
        repeated = repetition.open(self._store)
        total = len(repetition.given)
        work_on(repeated, self._store, total, self._try_again, self._should_stop)

    def _is_done(self, study: optuna.Study) -> bool:
        """Whether nothing is left to try, of the search or its repetition."""
        account = self._search.account(study)
        if not account.finished or self._search.pareto or not account.complete:
            return account.finished
        repetition = self._search.repetition(account)
        return repetition.account(repetition.open(self._store)).finished

    @cached_property
    def _judged_by(self) -> tuple[NDArray[np.uint8], Judge]:
        """The images to train on, and the judge."""
        settings, device = self._search.settings, self._compute.device
        tune = settings.tune
        split = hold_out(train_sets(), tune.held_out_fraction, tune.max_images, tune.seed)
        return judged_by(self._search.label, split, settings, self._job.root, device)

    def _try_new(self, trial: optuna.Trial) -> float | tuple[float, float]:
        """A trial of the search."""
        self._search.point(trial)
        chosen = self._search.configuration(trial.params)
        mflop = forward_flops(chosen, self._search.settings.preprocess.image_size) / 1e6
        trial.set_user_attr("mflop", mflop)
        pareto = self._search.pareto
        number = original(trial.study.get_trials(deepcopy=False)[trial.number])

        def on_check(check: Check) -> None:
            if not pareto:
                trial.report(check.score.excess, check.number)
                if check.number < self._budget.checks and number != FIRST and trial.should_prune():
                    raise optuna.TrialPruned

        excess = self._train(trial, chosen, f"{self._search.label} trial {number}", on_check)
        return (excess, mflop) if pareto else excess

    def _try_again(self, trial: optuna.Trial) -> float:
        """A trial of the repetition."""
        number, seed = Repetition.point(trial)
        chosen = self._search.configuration(self._tried[number].params)
        chosen = chosen.model_copy(update={"seed": seed})
        name = f"{self._search.label} trial {number} again, seed {seed}"
        return self._train(trial, chosen, name, lambda check: None)

    def _train(
        self,
        trial: optuna.Trial,
        chosen: TrainSettings,
        name: str,
        on_check: Callable[[Check], None],
    ) -> float:
        """Train and score within a run of its own; the last excess."""
        images, judge = self._judged_by
        last: list[Check] = []
        with self._tracked(trial, chosen, name) as run:

            def told(check: Check) -> None:
                last[:] = [check]
                values = {"excess": check.score.excess, "distance": check.score.distance}
                run.log_metrics(values | {"seconds": check.seconds}, check.seen)
                trial.set_user_attr("distance", check.score.distance)
                trial.set_user_attr("images", check.seen)
                trial.set_user_attr("seconds", round(check.seconds, 1))
                on_check(check)

            limit = self._search.settings.train.collapse_patience
            try:
                run_trial(
                    images,
                    chosen,
                    self._compute,
                    judge,
                    self._budget,
                    limit,
                    told,
                    self._should_stop,
                )
            finally:
                if last:
                    grid = tile(last[0].images[:SHOWN], COLUMNS)
                    run.log_image("samples", grid, last[0].seen)
        return last[0].score.excess

    @contextmanager
    def _tracked(self, trial: optuna.Trial, chosen: TrainSettings, name: str) -> Iterator[Run]:
        """The run of a trial; that it ended early is no failure of the run."""
        tags = {"tune.study": trial.study.study_name, "tune.trial": str(trial.number)}
        pruned: optuna.TrialPruned | None = None
        with start_run(name, self._job.root, flatten(chosen), tags, parent=self._job.parent) as run:
            if run.run_id is not None:
                trial.set_user_attr(RUN, run.run_id)
            try:
                yield run
                run.set_tag("tune.state", "complete")
            except optuna.TrialPruned as error:
                run.set_tag("tune.state", "pruned")
                pruned = error
            except TrialError as error:
                run.set_tag("tune.state", f"failed: {error}")
                raise
        if pruned is not None:
            raise pruned

    def _end_run_of(self, trial: FrozenTrial) -> None:
        """Close the run of a trial whose worker died."""
        if RUN in trial.user_attrs:
            end_run(self._job.root, trial.user_attrs[RUN], "KILLED")
