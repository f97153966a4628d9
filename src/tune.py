"""Search for better networks and trainings: `python -m src.tune`.

What may change is declared under `tune` in params.yaml. Every trial trains for a short time and is
judged by train patients that it has not seen. The first trial is the current configuration; the
best ones are repeated with other seeds before one is chosen. Interrupted or killed, the same
command goes on; on another machine, with the same --storage, it joins.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from types import FrameType
from typing import get_args

import optuna

from .common.errors import UserError, report_errors
from .common.files import write_file, write_json
from .common.logging import logger
from .common.outputs import read_array
from .common.paths import HOME, PARAMS, PROJECT, array_path
from .config.edit import changed_leaves, difference, edited
from .config.search_space import UNSEARCHED, check_space
from .config.settings import ClassName, flatten, load_settings, read_settings
from .config.train import TrainSettings
from .data.dataset import train_checksum
from .metrics.extractors import weights_name
from .report.search import render_search
from .tracking.runs import Run, start_shared_run
from .tuning.figures import TITLES, study_figures
from .tuning.result import Found, collect
from .tuning.search import TRAIN_IRRELEVANT, TUNE_IRRELEVANT, Search, ended
from .tuning.storage import STORAGE, Store, open_store, original, storage_place
from .tuning.worker import Job, shares
from .tuning.workers import Watched, run_crew, while_stored


def tune(arguments: argparse.Namespace) -> None:
    """Search, report, and adopt the result if asked."""
    if arguments.trial is not None and not (arguments.apply and arguments.label):
        raise UserError("--trial: it chooses what --apply writes, of the class that --class names")
    if arguments.pareto and arguments.apply and arguments.trial is None:
        raise UserError(
            "--apply: of a front you have to choose one; name it with --class and --trial"
        )
    settings = load_settings(PARAMS, _overrides(arguments))
    labels: tuple[ClassName, ...] = (arguments.label,) if arguments.label else get_args(ClassName)
    for label in labels:
        try:
            check_space(
                settings.train_of(label), settings.tune.space, settings.preprocess.image_size
            )
        except ValueError as error:
            raise UserError(f"params.yaml, train.{label}: tune.space.{error}") from error
        _check_arrays(label, settings.preprocess.image_size)
    written = load_settings(PARAMS) if arguments.apply else settings
    place = storage_place(arguments.storage)
    tuned = settings.tune
    # Refused here rather than by every worker, if something is missing or other than it should be.
    data = train_checksum()
    weights = weights_name(settings.fid, HOME)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with closing(open_store(place, tuned.max_retries, tuned.heartbeat_timeout_seconds)) as store:
        searches = [
            Search(settings, label, "pareto" if arguments.pareto else "search", data, weights)
            for label in labels
        ]
        if arguments.trial is not None:  # from another search it would be another configuration
            ended(searches[0], store)
        found = [_run(search, store, place, arguments.workers) for search in searches]
        if arguments.apply:
            for result in found:
                _apply(result, written.train_of(result.search.label), arguments.trial)


def _check_arrays(label: ClassName, size: int) -> None:
    """Refuse prepared images of another size than the parameters name.

    Raises:
        UserError: with both sizes.
    """
    found = read_array(array_path(label, "train")).shape[-1]
    if found != size:
        raise UserError(
            f"preprocess.image_size: {size}, but the prepared images have {found} pixels a side; "
            "`dvc repro preprocess` makes them anew"
        )


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """The options that stand for a parameter, and those that were given as such."""
    named = {
        "trials": arguments.trials,
        "top_trials": arguments.top,
        "repeat_seeds": arguments.seeds,
    }
    given = [f"tune.{name}={value}" for name, value in named.items() if value is not None]
    return [*arguments.set, *given]


def _run(search: Search, store: Store, place: str, workers: int) -> Found:
    """Search one class and report."""
    tune = search.settings.tune
    judged = {
        name: value
        for name, value in flatten(search.train).items()
        if name.partition(".")[0] not in TRAIN_IRRELEVANT
    }
    params = judged | {
        f"tune.{name}": value
        for name, value in flatten(tune).items()
        if name not in TUNE_IRRELEVANT
    }
    study = search.open(store)
    tags = {"tune.study": search.name, "tune.class": search.label}
    with start_shared_run(search.name, HOME, params, tags) as run:
        jobs = [Job(search, place, HOME, run.run_id, cores, gpu) for cores, gpu in shares(workers)]
        logger.info(
            f"{search.label}: study {search.name}, {tune.trials} trials of "
            f"{tune.budget:g} {tune.budget_unit}, {workers} "
            f"{'worker' if workers == 1 else 'workers'} here"
        )
        with Watched(search, store, study) as watched:
            run_crew(jobs, watched)
        found = collect(search, study, watched.repetition)
        if beyond := found.account.beyond:
            logger.info(
                f"{search.label}: the first {tune.trials} trials count; there are {beyond} more, "
                f"which `--trials {tune.trials + beyond}` counts too"
            )
        _report(found, run)
    logger.info(f"{search.label}: {found.sentence()}")
    return found


def _report(found: Found, run: Run) -> None:
    """Write reports/tune and log it."""
    search = found.search
    stem = search.label + ("-pareto" if search.pareto else "")
    folder = PROJECT / "reports" / "tune"
    figures = study_figures(found)
    table = found.table()
    written: dict[str, bytes | str] = {
        f"{stem}.csv": table.to_csv(index=False, lineterminator="\n"),
        f"{stem}.html": render_search(found, figures),
        **{f"{stem}-{name}.png": content for name, content in figures.items()},
    }
    for name, content in written.items():
        write_file(folder / name, content)
    for name in TITLES.keys() - figures.keys():  # of an earlier search that had more to show
        (folder / f"{stem}-{name}.png").unlink(missing_ok=True)
    write_json(folder / f"{stem}.json", found.summary())
    for name in (*written, f"{stem}.json"):
        run.log_file(folder / name, "tune")
    if found.repeated:  # so that studies stand side by side in MLflow
        run.log_metrics({"excess": found.repeated[0].mean})
    run.set_tag("tune.result", found.sentence())
    logger.info(f"{search.label}: written to {folder / stem}.html, .csv and .json")


def _apply(found: Found, written: TrainSettings, number: int | None) -> None:
    """Write the chosen configuration into params.yaml and show what changed.

    Args:
        found: the result.
        written: what params.yaml said when the search began, whatever --set said. What was changed
            there since, and what is not for a search to choose, stays.
        number: of the trial to choose, if not the best.

    Raises:
        UserError: if params.yaml would not be valid, such as with several processes, or if more
            than this class's settings would change, as where both share an anchor.
    """
    search = found.search
    trial = found.chosen(number)
    changes = changed_leaves(
        written.model_dump(mode="json", exclude=set(UNSEARCHED)),
        found.configuration(trial).model_dump(mode="json", exclude=set(UNSEARCHED)),
    )
    before = PARAMS.read_text(encoding="utf-8")
    prefix = f"train.{search.label}."
    wanted = {prefix + name: value for name, value in changes.items()}
    after = edited(before, wanted)
    if before == after:
        logger.info(f"{search.label}: params.yaml has this configuration already")
        return
    old, new = (
        read_settings(text, PARAMS.name).model_dump(mode="json") for text in (before, after)
    )
    if others := sorted(changed_leaves(old, new).keys() - wanted.keys()):
        raise UserError(
            f"--apply: with {prefix[:-1]} this would change {', '.join(others)} too; write out "
            "what params.yaml shares by an anchor"
        )
    write_file(PARAMS, after)
    logger.info(difference(before, after, "params.yaml"))
    logger.info(
        f"{search.label}: trial {original(trial)} is in params.yaml; `dvc repro` trains it in full"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m src.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--class", dest="label", choices=get_args(ClassName), help="else both")
    parser.add_argument("--trials", type=int, help="of all workers; else tune.trials")
    parser.add_argument("--workers", type=positive, default=1, help="processes on this host")
    parser.add_argument(
        "--storage",
        help=f"a journal file, or the URL of a database; else ${STORAGE} or tune.journal",
    )
    parser.add_argument(
        "--pareto", action="store_true", help="search for the front of distance against compute"
    )
    parser.add_argument(
        "--top", type=int, help="best trials that are repeated; else tune.top_trials"
    )
    parser.add_argument(
        "--seeds", type=int, help="with so many other seeds; else tune.repeat_seeds"
    )
    parser.add_argument("--apply", action="store_true", help="write the best into params.yaml")
    parser.add_argument("--trial", type=int, metavar="N", help="write this trial instead")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change a parameter"
    )
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    return report_errors(lambda: while_stored(lambda: tune(arguments)))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def positive(text: str) -> int:
    """A number of the command line that must be 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
