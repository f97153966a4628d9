"""A worker: a process that runs trials of a search until all have ended."""

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

from ..common.devices import Compute, choose_compute, thread_count
from ..common.processes import end_with_parent
from ..config.settings import ClassName, Settings, flatten
from ..config.train import TrainSettings
from ..data.dataset import train_sets
from ..data.download import cache_folder
from ..data.grids import tile
from ..metrics.extractors import choose_extractor
from ..metrics.features import FeatureCache, extract_features
from ..models.flops import forward_flops
from ..tracking.runs import Run, end_run, start_run
from .objective import Budget, Evaluation, Split, TrialError, TrialScorer, hold_out, run_trial
from .search import CURRENT_TRIAL, Repetition, Search
from .storage import lost_storage_reported, open_store, original_number
from .study import run_trials

RUN = "mlflow_run"  # user attribute of a trial: the id of its MLflow run
GRID_IMAGES, GRID_COLUMNS = 32, 8  # of a trial's generated images in MLflow


@dataclass(frozen=True)
class WorkerTask:
    """Everything that a worker process needs to begin."""

    search: Search
    storage: str  # path of a journal file, or URL of a database
    root: Path  # folder of the default tracking store, and of relative paths of weights
    parent_run_id: str | None  # of the MLflow run of the study
    cores: tuple[int, ...]
    gpu: str | None  # value for CUDA_VISIBLE_DEVICES


def divide_host(workers: int) -> list[tuple[tuple[int, ...], str | None]]:
    """Divide this host's cores and GPUs among workers.

    Returns:
        the cores and the GPU of each worker, None without GPUs. If there are more workers than
        cores or GPUs, some workers share one.
    """
    cores = sorted(os.sched_getaffinity(0))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpu_count = torch.cuda.device_count()  # without initialising CUDA
    gpus = named.split(",")[:gpu_count] if named else [str(gpu) for gpu in range(gpu_count)]
    per_worker = max(len(cores) // workers, 1)
    return [
        (
            tuple(cores[(number * per_worker + i) % len(cores)] for i in range(per_worker)),
            gpus[number % len(gpus)] if gpus else None,
        )
        for number in range(workers)
    ]


@lost_storage_reported()
def work(task: WorkerTask) -> None:
    """Run a worker's task in this process, which ends with its parent process.

    Raises:
        UserError: if the storage, a file or a parameter cannot be used.
        KeyboardInterrupt: after a signal; the running trial has been queued again.
    """
    end_with_parent()
    os.sched_setaffinity(0, task.cores)
    if task.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = task.gpu
    with threadpool_limits(thread_count()):
        _Worker(task).run()


def make_scorer(
    label: ClassName, split: Split, settings: Settings, root: Path, device: torch.device
) -> tuple[NDArray[np.uint8], TrialScorer]:
    """Make a class's scorer with the feature extractor that the parameters name.

    Args:
        label: the class.
        split: train images of both classes, and held-out ones.
        settings: of the extractor and the search.
        root: folder that a relative path of the extractor's weights starts from.
        device: where features are extracted and images are generated.

    Returns:
        the class's train images, uint8 (n, size, size), and the scorer.

    Raises:
        UserError: if the extractor cannot be loaded or does not tell the classes apart.
    """
    extractor, _ = choose_extractor(settings.fid, root, lambda: split.train, device)
    cache, batch_size = FeatureCache(cache_folder() / "features"), settings.fid.batch_size
    scorer = TrialScorer.of_class(
        label.upper(),
        split,
        lambda images: cache.features(extractor, images, batch_size, device),
        lambda images: extract_features(extractor, images, batch_size, device),
        settings.tune.seed,
    )
    return split.train[label.upper()].images, scorer


class _Worker:
    def __init__(self, task: WorkerTask) -> None:
        self._task, self._search = task, task.search
        settings = task.search.settings
        tune = settings.tune
        self._compute: Compute = choose_compute(settings.compute)
        self._store = open_store(task.storage, tune.max_retries, tune.heartbeat_timeout_seconds)
        self._store.on_dead_trial = self._end_run_of
        self._budget = Budget(tune.budget, tune.budget_unit, tune.evaluations)
        self._signals: list[int] = []  # received so far

    def _should_stop(self) -> bool:
        return bool(self._signals)

    def run(self) -> None:
        """Run trials of the search, then of the repetition of its best trials."""
        tune = self._search.settings.tune
        study = self._search.open_study(self._store)
        if not self._is_finished(study):
            self._images_and_scorer  # noqa: B018, a refusal here costs no trial
        # From here on a trial or a lock of the storage may be held. An exception at any moment
        # would leave them behind, so a signal only asks for an end between two batches.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: self._signals.append(number))
        run_trials(study, self._store, tune.trials, self._run_new, self._should_stop)
        ledger = self._search.ledger(study)
        if self._search.is_pareto or not ledger.complete:
            return
        repetition = self._search.repetition(ledger)
        self._search_trials = {original_number(trial): trial for trial in ledger.trials}
        repeats = repetition.open_study(self._store)
        total = len(repetition.points)
        run_trials(repeats, self._store, total, self._run_again, self._should_stop)

    def _is_finished(self, study: optuna.Study) -> bool:
        """Return whether no trial is left, neither of the search nor of its repetition."""
        ledger = self._search.ledger(study)
        if not ledger.is_finished or self._search.is_pareto or not ledger.complete:
            return ledger.is_finished
        repetition = self._search.repetition(ledger)
        return repetition.ledger(repetition.open_study(self._store)).is_finished

    @cached_property
    def _images_and_scorer(self) -> tuple[NDArray[np.uint8], TrialScorer]:
        """The images to train on, uint8 (n, size, size), and the scorer."""
        settings, device = self._search.settings, self._compute.device
        tune = settings.tune
        split = hold_out(train_sets(), tune.held_out_fraction, tune.max_images, tune.seed)
        return make_scorer(self._search.label, split, settings, self._task.root, device)

    def _run_new(self, trial: optuna.Trial) -> float | tuple[float, float]:
        """Run a trial of the search; return its excess and, for a front, MFLOP per image."""
        self._search.suggest(trial)
        chosen = self._search.configuration(trial.params)
        mflop = forward_flops(chosen, self._search.settings.preprocess.image_size) / 1e6
        trial.set_user_attr("mflop", mflop)
        number = original_number(trial.study.get_trials(deepcopy=False)[trial.number])
        may_be_pruned = not self._search.is_pareto and number != CURRENT_TRIAL

        def on_evaluation(evaluation: Evaluation) -> None:
            if not self._search.is_pareto:
                trial.report(evaluation.score.excess, evaluation.number)
            is_last = evaluation.number == self._budget.evaluations
            if may_be_pruned and not is_last and trial.should_prune():
                raise optuna.TrialPruned

        name = f"{self._search.label} trial {number}"
        excess = self._train(trial, chosen, name, on_evaluation)
        return (excess, mflop) if self._search.is_pareto else excess

    def _run_again(self, trial: optuna.Trial) -> float:
        """Run a trial of the repetition and return its excess."""
        number, seed = Repetition.suggest(trial)
        chosen = self._search.configuration(self._search_trials[number].params)
        chosen = chosen.model_copy(update={"seed": seed})
        name = f"{self._search.label} trial {number} again, seed {seed}"
        return self._train(trial, chosen, name, lambda evaluation: None)

    def _train(
        self,
        trial: optuna.Trial,
        chosen: TrainSettings,
        name: str,
        on_evaluation: Callable[[Evaluation], None],
    ) -> float:
        """Train and score a configuration in an MLflow run of its own; return the last excess."""
        images, scorer = self._images_and_scorer
        evaluations: list[Evaluation] = []
        with self._tracked(trial, chosen, name) as run:

            def record(evaluation: Evaluation) -> None:
                evaluations.append(evaluation)
                values = evaluation.score.as_dict()
                run.log_metrics(values | {"seconds": evaluation.seconds}, evaluation.images_seen)
                for name in values.keys() - {"excess"}:  # the trial's value
                    trial.set_user_attr(name, values[name])
                trial.set_user_attr("images", evaluation.images_seen)
                trial.set_user_attr("seconds", round(evaluation.seconds, 1))
                on_evaluation(evaluation)

            patience, stop = self._search.settings.train.collapse_patience, self._should_stop
            try:
                run_trial(
                    images, chosen, self._compute, scorer, self._budget, patience, record, stop
                )
            finally:
                if evaluations:
                    grid = tile(evaluations[-1].images[:GRID_IMAGES], GRID_COLUMNS)
                    run.log_image("samples", grid, evaluations[-1].images_seen)
        return evaluations[-1].score.excess

    @contextmanager
    def _tracked(self, trial: optuna.Trial, chosen: TrainSettings, name: str) -> Iterator[Run]:
        """Open the trial's MLflow run; a pruned trial's run ends as finished, not as failed."""
        tags = {"tune.study": trial.study.study_name, "tune.trial": str(trial.number)}
        pruned: optuna.TrialPruned | None = None
        params, parent = flatten(chosen), self._task.parent_run_id
        with start_run(name, self._task.root, params, tags, parent=parent) as run:
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
        """Mark the MLflow run of a dead worker's trial as killed."""
        if RUN in trial.user_attrs:
            end_run(self._task.root, trial.user_attrs[RUN], "KILLED")
