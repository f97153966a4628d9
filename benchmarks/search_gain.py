"""The gain of a search: its first and its best configuration, trained longer, on the test split.

`python -m benchmarks.search_gain --class normal --workers 2` takes the search that
`python -m src.tune` has finished with the same params.yaml and storage. It trains both
configurations on the whole train split for five times a trial's budget, with three seeds that the
search has not used, and scores them on the test split. Writes reports/kermany/search_CLASS.csv and
.json and a picture of generated images, and copies the search's own table and plots there.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.workspace import ROOT, processor
from src.common.devices import choose_compute
from src.common.errors import UserError, report_errors
from src.common.files import write_file, write_json
from src.common.logging import logger
from src.common.outputs import write_table
from src.common.paths import HOME, PARAMS
from src.config.settings import ClassName, Settings, load_settings
from src.config.train import TrainSettings
from src.data.dataset import test_sets, train_checksum, train_sets
from src.data.grids import png, tile
from src.metrics.extractors import weights_name
from src.tune import positive
from src.tuning.objective import Budget, Evaluation, Split, run_trial
from src.tuning.result import SearchResult, collect_result
from src.tuning.search import CURRENT_TRIAL, Search, open_finished_study
from src.tuning.storage import STORAGE, choose_storage, open_store, original_number
from src.tuning.worker import divide_host, make_scorer

FOLDER = ROOT / "reports" / "kermany"
BUDGETS = 5  # that each training has, of a trial
SEEDS = 3
SHOWN, COLUMNS = 24, 12  # generated images of each configuration


@dataclass(frozen=True)
class Task:
    """One training of a trial's configuration."""

    settings: Settings
    label: ClassName
    trial: int
    chosen: TrainSettings


def pin(cores: "multiprocessing.Queue[tuple[int, ...]]") -> None:
    """Pin this process to the next cores of the queue."""
    os.sched_setaffinity(0, cores.get())


def train(task: Task) -> tuple[dict[str, float], NDArray[np.uint8]]:
    """Train one configuration with one seed; return its row and some images, uint8 (n, h, w)."""
    settings = task.settings
    compute = choose_compute(settings.compute)
    test = test_sets()
    size = min(map(len, test.values()))
    draw = np.random.default_rng(settings.tune.seed)
    judging = {
        label: part.take(np.sort(draw.permutation(len(part))[:size]))
        for label, part in test.items()
    }
    split = Split(train_sets(), judging)
    train_images, scorer = make_scorer(task.label, split, settings, HOME, compute.device)
    evaluations: list[Evaluation] = []
    budget = Budget(BUDGETS * settings.tune.budget, settings.tune.budget_unit, 1)
    patience = settings.train.collapse_patience
    run_trial(train_images, task.chosen, compute, scorer, budget, patience, evaluations.append)
    (evaluation,) = evaluations
    row = {
        "trial": task.trial,
        "seed": task.chosen.seed,
        "images": evaluation.images_seen,
        "seconds": round(evaluation.seconds, 1),
        **evaluation.score.as_dict(),
        "floor": scorer.floor,
        "other_class": scorer.other_class,
        "judged": scorer.images,
    }
    return row, evaluation.images[:SHOWN]


def load_result(
    settings: Settings, label: ClassName, storage: str | None, reported: Path
) -> SearchResult:
    """Load the result of a finished search.

    Raises:
        UserError: if the report is of another search, or the search has not ended.
    """
    search = Search(settings, label, "search", train_checksum(), weights_name(settings.fid, HOME))
    if not reported.is_file() or json.loads(reported.read_text())["study"] != search.name:
        raise UserError(f"{search.name}: search first: `python -m src.tune --class {label}`")
    timeout = settings.tune.heartbeat_timeout_seconds
    with closing(open_store(choose_storage(storage), 0, timeout)) as store:
        study = open_finished_study(search, store)
        repetition = search.repetition(search.ledger(study))
        return collect_result(search, study, open_finished_study(repetition, store))


def compare(label: ClassName, storage: str | None, workers: int) -> None:
    """Train both configurations, score them, and write the files."""
    settings = load_settings(PARAMS)
    reported = ROOT / "reports" / "tune" / f"{label}.json"
    result = load_result(settings, label, storage, reported)
    search, best = result.search, result.chosen_trial()
    configurations = {
        CURRENT_TRIAL: search.train,
        original_number(best): result.configuration(best),
    }

    # Train each configuration with each seed.
    unused_seed = search.train.seed + settings.tune.repeat_seeds + 1
    tasks = [
        Task(settings, label, trial, chosen.model_copy(update={"seed": unused_seed + i}))
        for i in range(SEEDS)
        for trial, chosen in configurations.items()
    ]
    context = multiprocessing.get_context("spawn")
    cores_of_workers = context.Queue()
    for cores, _ in divide_host(workers):
        cores_of_workers.put(cores)
    rows: list[dict[str, float]] = []
    shown: dict[int, NDArray[np.uint8]] = {}
    with ProcessPoolExecutor(workers, context, pin, (cores_of_workers,)) as pool:
        for row, images in pool.map(train, tasks):
            rows.append(row)
            shown.setdefault(int(row["trial"]), images)
            logger.info(f"trial {row['trial']}, seed {row['seed']}: excess {row['excess']:.3f}")

    # Write the table, the picture and the summary.
    stem = f"search_{label}"
    table = pd.DataFrame(rows)
    write_table(FOLDER / f"{stem}.csv", table)
    grid = tile(np.concatenate([shown[trial] for trial in configurations]), COLUMNS)
    write_file(FOLDER / f"{stem}.png", png(grid))
    summary: dict[str, Any] = {
        # Without the storage, whose URL may hold a password.
        "command": f"python -m benchmarks.search_gain --class {label} --workers {workers}",
        "processor": processor(),
        "budget": settings.tune.budget,
        "unit": settings.tune.budget_unit,
        "times": BUDGETS,
        "search": result.summary(),
        "test": {
            str(trial): {"mean": float(part["mean"]), "std": float(part["std"])}
            for trial, part in table.groupby("trial")["excess"].agg(["mean", "std"]).iterrows()
        },
        "space": settings.tune.model_dump(mode="json")["space"],
    }
    write_json(FOLDER / f"{stem}.json", summary)
    for end in (".csv", "-history.png", "-importances.png", "-parallel.png"):
        if (source := reported.with_name(f"{label}{end}")).is_file():  # few trials have no plots
            shutil.copy(source, FOLDER / f"{stem}_trials{end}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_gain", description=__doc__)
    parser.add_argument("--class", dest="label", choices=get_args(ClassName), required=True)
    parser.add_argument("--storage", help=f"of the search; else ${STORAGE} or tune.journal")
    parser.add_argument("--workers", type=positive, default=1)
    arguments = parser.parse_args(argv)
    return report_errors(lambda: compare(arguments.label, arguments.storage, arguments.workers))


if __name__ == "__main__":
    sys.exit(main())
