"""A run of `python -m src.tune`: search each class, report, and adopt a trial if asked."""

from collections.abc import Sequence
from contextlib import closing
from typing import get_args

from ..common.errors import UserError
from ..common.logging import logger
from ..common.outputs import read_array
from ..common.paths import HOME, PARAMS, array_path
from ..config.search_space import check_space
from ..config.settings import ClassName, Settings, flatten, load_settings
from ..data.dataset import train_checksum
from ..metrics.extractors import weights_name
from ..tracking.runs import start_shared_run
from .apply import apply_trial
from .report import write_report
from .result import SearchResult, collect_result
from .search import TRAIN_IRRELEVANT, TUNE_IRRELEVANT, Kind, Search, open_finished_study
from .storage import Store, choose_storage, lost_storage_reported, open_store
from .worker import WorkerTask, divide_host
from .workers import ProgressView, run_workers


@lost_storage_reported()
def run_searches(
    label: ClassName | None,
    kind: Kind,
    overrides: Sequence[str],
    storage: str | None,
    workers: int,
    apply: bool,
    trial: int | None,
) -> None:
    """Search one class or each, write its report, and adopt a trial if asked.

    Args:
        label: the class; None for each class in turn.
        kind: whether compute is a second objective.
        overrides: of params.yaml, as ``section.key=value``.
        storage: path of a journal file or URL of a database; None for the default.
        workers: processes on this host.
        apply: whether to write a trial of each class into params.yaml.
        trial: number of the trial to write, of a finished search; None for the best one.

    Raises:
        UserError: if a parameter, the images or the storage cannot be used, or a worker fails.
        KeyboardInterrupt: after an interrupt, when the workers have stopped.
    """
    # Refuse here what every worker would refuse.
    settings = load_settings(PARAMS, overrides)
    labels: Sequence[ClassName] = (label,) if label else get_args(ClassName)
    for name in labels:
        _check_class(settings, name)
    written = load_settings(PARAMS) if apply else settings
    data, weights = train_checksum(), weights_name(settings.fid, HOME)

    # Search and report; only then change params.yaml.
    storage, tune = choose_storage(storage), settings.tune
    searches = [Search(settings, name, kind, data, weights) for name in labels]
    with closing(open_store(storage, tune.max_retries, tune.heartbeat_timeout_seconds)) as store:
        if trial is not None:  # in another study the number would mean another configuration
            open_finished_study(searches[0], store)
        results = [_run_search(search, store, storage, workers) for search in searches]
        if apply:
            for result in results:
                apply_trial(result, written.train_of(result.search.label), trial)


def _check_class(settings: Settings, label: ClassName) -> None:
    """Refuse a search space or prepared images that do not fit the parameters.

    Raises:
        UserError: the message names the parameter.
    """
    size = settings.preprocess.image_size
    try:
        check_space(settings.train_of(label), settings.tune.space, size)
    except ValueError as error:
        raise UserError(f"params.yaml, train.{label}: tune.space.{error}") from error
    prepared = read_array(array_path(label, "train")).shape[-1]
    if prepared != size:
        raise UserError(
            f"preprocess.image_size: {size}, but the prepared images have {prepared} pixels a "
            "side; `dvc repro preprocess` prepares them again"
        )


def _run_search(search: Search, store: Store, storage: str, workers: int) -> SearchResult:
    """Run the trials of one class's search, write its report and return the result."""
    tune, label = search.settings.tune, search.label
    params = {
        name: value
        for name, value in flatten(search.train).items()
        if name.partition(".")[0] not in TRAIN_IRRELEVANT
    } | {
        f"tune.{name}": value
        for name, value in flatten(tune).items()
        if name not in TUNE_IRRELEVANT
    }
    tags = {"tune.study": search.name, "tune.class": label}
    study = search.open_study(store)
    with start_shared_run(search.name, HOME, params, tags) as run:
        tasks = [
            WorkerTask(search, storage, HOME, run.run_id, cores, gpu)
            for cores, gpu in divide_host(workers)
        ]
        logger.info(
            f"{label}: study {search.name}, {tune.trials} trials of {tune.budget:g} "
            f"{tune.budget_unit}, {workers} {'worker' if workers == 1 else 'workers'} on this host"
        )
        view = ProgressView(search, store, study)
        with view.progress:
            run_workers(tasks, view)
        result = collect_result(search, study, view.repetition)
        if extra := result.ledger.extra:
            logger.info(
                f"{label}: the first {tune.trials} trials count; there are {extra} more, which "
                f"`--trials {tune.trials + extra}` counts too"
            )
        write_report(result, run)
    logger.info(f"{label}: {result.verdict()}")
    return result
