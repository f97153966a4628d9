"""What a search gained: its first and its best configuration, trained longer, on the test split.

`python -m benchmarks.search_gain --class normal --workers 2` takes the search that
`python -m src.tune` has ended with the same params.yaml and storage, trains both configurations on
the whole train split for five times a trial's budget, with three seeds that the search has not
used, and judges them by the test split. Writes reports/kermany/search_CLASS.csv and .json and a
picture of generated images, and copies the search's own table and plots there.
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
from typing import get_args

import numpy as np
import optuna
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
from src.metrics.extractors import weights_name
from src.report.grids import png, tile
from src.tune import positive
from src.tuning.objective import Budget, Check, Split, run_trial
from src.tuning.result import collect
from src.tuning.search import FIRST, Search, ended
from src.tuning.storage import STORAGE, open_store, original, storage_place
from src.tuning.worker import judged_by, shares

FOLDER = ROOT / "reports" / "kermany"
TIMES = 5  # a trial's budget
SEEDS = 3
SHOWN, COLUMNS = 24, 12  # generated images of each configuration


@dataclass(frozen=True)
class Task:
    """One training of a configuration."""

    settings: Settings
    label: ClassName
    trial: int
    chosen: TrainSettings


def pin(places: "multiprocessing.Queue[tuple[int, ...]]") -> None:
    """Give this process cores of its own."""
    os.sched_setaffinity(0, places.get())


def train(task: Task) -> tuple[dict[str, float], NDArray[np.uint8]]:
    """Train and judge one configuration with one seed."""
    settings = task.settings
    compute = choose_compute(settings.compute)
    test = test_sets()
    size = min(map(len, test.values()))
    draw = np.random.default_rng(settings.tune.seed)
    judging = {
        label: part.images[np.sort(draw.permutation(len(part))[:size])]
        for label, part in test.items()
    }
    split = Split(train_sets(), judging)
    to_train_on, judge = judged_by(task.label, split, settings, HOME, compute.device)
    checks: list[Check] = []
    budget = Budget(TIMES * settings.tune.budget, settings.tune.budget_unit, 1)
    limit = settings.train.collapse_patience
    run_trial(to_train_on, task.chosen, compute, judge, budget, limit, checks.append)
    (check,) = checks
    row = {
        "trial": task.trial,
        "seed": task.chosen.seed,
        "images": check.seen,
        "seconds": round(check.seconds, 1),
        "distance": check.score.distance,
        "excess": check.score.excess,
        "floor": judge.floor,
        "other_class": judge.other_class,
        "judged": judge.images,
    }
    return row, check.images[:SHOWN]


def compare(arguments: argparse.Namespace) -> None:
    """Train, judge and write."""
    settings = load_settings(PARAMS)
    label: ClassName = arguments.label
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = Search(settings, label, "search", train_checksum(), weights_name(settings.fid, HOME))
    reported = ROOT / "reports" / "tune" / f"{label}.json"
    if not reported.is_file() or json.loads(reported.read_text())["study"] != search.name:
        raise UserError(f"{search.name}: search first: `python -m src.tune --class {label}`")
    place = storage_place(arguments.storage)
    with closing(open_store(place, 0, settings.tune.heartbeat_timeout_seconds)) as store:
        study = ended(search, store)
        repetition = search.repetition(search.account(study))
        found = collect(search, study, ended(repetition, store))
    best = found.chosen()
    configurations = {FIRST: search.train, original(best): found.configuration(best)}
    unused = search.train.seed + settings.tune.repeat_seeds + 1
    tasks = [
        Task(settings, label, trial, chosen.model_copy(update={"seed": unused + i}))
        for i in range(SEEDS)
        for trial, chosen in configurations.items()
    ]
    context = multiprocessing.get_context("spawn")
    places = context.Queue()
    for cores, _ in shares(arguments.workers):
        places.put(cores)
    rows: list[dict[str, float]] = []
    shown: dict[int, NDArray[np.uint8]] = {}
    with ProcessPoolExecutor(arguments.workers, context, pin, (places,)) as pool:
        for row, images in pool.map(train, tasks):
            rows.append(row)
            shown.setdefault(int(row["trial"]), images)
            logger.info(f"trial {row['trial']}, seed {row['seed']}: distance {row['distance']:.3f}")
    stem = f"search_{label}"
    table = pd.DataFrame(rows)
    write_table(FOLDER / f"{stem}.csv", table)
    grid = tile(np.concatenate([shown[trial] for trial in configurations]), COLUMNS)
    write_file(FOLDER / f"{stem}.png", png(grid))
    means = table.groupby("trial")["distance"].agg(["mean", "std"])
    write_json(
        FOLDER / f"{stem}.json",
        {
            # Without the storage, whose URL may hold a password.
            "command": f"python -m benchmarks.search_gain --class {label} "
            f"--workers {arguments.workers}",
            "processor": processor(),
            "budget": settings.tune.budget,
            "unit": settings.tune.budget_unit,
            "times": TIMES,
            "search": found.summary(),
            "test": {
                str(trial): {"mean": float(part["mean"]), "std": float(part["std"])}
                for trial, part in means.iterrows()
            },
            "space": settings.tune.model_dump(mode="json")["space"],
        },
    )
    for end in (".csv", "-history.png", "-importances.png", "-parallel.png"):
        if (made := reported.with_name(f"{label}{end}")).is_file():  # few trials have no plots
            shutil.copy(made, FOLDER / f"{stem}_trials{end}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_gain", description=__doc__)
    parser.add_argument("--class", dest="label", choices=get_args(ClassName), required=True)
    parser.add_argument("--storage", help=f"of the search; else ${STORAGE} or tune.journal")
    parser.add_argument("--workers", type=positive, default=1)
    arguments = parser.parse_args(argv)
    return report_errors(lambda: compare(arguments))


if __name__ == "__main__":
    sys.exit(main())
