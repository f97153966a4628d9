"""How many trials a minute a search's storage and sampler bear: `python -m benchmarks.tuning`.

Trials that do nothing but choose values, report three scores and end, by 1, 2 and 4 workers, in a
journal file and, with `--storage URL`, in a database that may be emptied of these studies
afterwards. The plain baseline is Optuna's own loop in one process on the same storage. Writes
reports/benchmarks/tuning.json.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import MedianPruner
from sqlalchemy import create_engine, text

from benchmarks.workspace import ROOT, processor
from src.common.errors import report_errors
from src.common.files import write_json
from src.common.logging import logger
from src.config.search_space import current
from src.config.settings import Settings, load_settings
from src.tuning.sampler import GivenFirst
from src.tuning.search import encode, suggest
from src.tuning.storage import Store, open_store
from src.tuning.study import Account, work_on

WORKERS = (1, 2, 4)
TRIALS = 120
CHECKS = 3
TRIAL_SECONDS = 60.0  # of a real trial with its scores, for what a thousand workers would need
MANY = 1000


def open_study(settings: Settings, store: Store, name: str) -> optuna.Study:
    space = settings.tune.space
    given = {name: encode(v) for name, v in current(settings.train.normal, space).items()}
    return optuna.create_study(
        storage=store.storage,
        study_name=name,
        load_if_exists=True,
        sampler=GivenFirst([given], settings.tune.startup_trials, 1),
        pruner=MedianPruner(settings.tune.startup_trials),
    )


def objective(settings: Settings, trial: optuna.Trial) -> float:
    values = [suggest(trial, name, among) for name, among in settings.tune.space.items()]
    value = float(sum(len(str(value)) for value in values))
    for check in range(CHECKS):
        trial.report(value, check)
        trial.should_prune()
    trial.set_user_attr("distance", value)
    return value


def work(place: str, name: str, total: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings = load_settings(ROOT / "params.yaml")
    store = open_store(place, 2, 60)
    work_on(
        open_study(settings, store, name), store, total, lambda trial: objective(settings, trial)
    )


def trials_a_minute(trials: Sequence[optuna.trial.FrozenTrial]) -> float:
    """From the first beginning to the last end."""
    begun = min(trial.datetime_start for trial in trials if trial.datetime_start)
    ended = max(trial.datetime_complete for trial in trials if trial.datetime_complete)
    return 60 * len(trials) / (ended - begun).total_seconds()


def load(place: str) -> dict[str, float]:
    """What a storage has been asked so far."""
    if "://" not in place:
        content = Path(place).read_bytes()
        return {"bytes": len(content), "records": content.count(b"\n")}
    query = (
        "SELECT xact_commit + xact_rollback, tup_returned + tup_fetched, "
        "tup_inserted + tup_updated FROM pg_stat_database WHERE datname = current_database()"
    )
    engine = create_engine(place)
    time.sleep(2)  # the counts come late
    with engine.connect() as connection:
        row = connection.execute(text(query)).one()
    engine.dispose()
    return {"transactions": row[0], "rows_read": row[1], "rows_written": row[2]}


def measure(place: str) -> dict[str, Any]:
    settings = load_settings(ROOT / "params.yaml")
    store = open_store(place, 2, 60)
    found: dict[str, Any] = {}
    token = uuid.uuid4().hex[:6]
    plain = open_study(settings, store, f"bench-{token}-plain")
    plain.optimize(lambda trial: objective(settings, trial), n_trials=TRIALS)
    baseline = trials_a_minute(plain.trials)
    found["plain"] = {"trials_a_minute": round(baseline)}
    context = multiprocessing.get_context("spawn")
    for workers in WORKERS:
        name = f"bench-{token}-{workers}"
        study = open_study(settings, store, name)
        before = load(place)
        processes = [
            context.Process(target=work, args=(place, name, TRIALS)) for _ in range(workers)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        after = load(place)
        account = Account.of(study, TRIALS, 2)
        rate = trials_a_minute(account.trials)
        found[f"{workers} workers"] = {
            "trials_a_minute": round(rate),
            "against_plain": round(rate / baseline, 2),
            "accounted_for": account.done,
            **{f"{key}_a_trial": round((after[key] - before[key]) / TRIALS, 1) for key in after},
        }
        logger.info(f"{workers} workers: {json.dumps(found[f'{workers} workers'])}")
    needed = MANY / TRIAL_SECONDS
    four = found[f"{WORKERS[-1]} workers"]
    found["a thousand workers"] = {
        "trials_a_second": round(needed, 1),
        **{
            key.replace("_a_trial", "_a_second"): round(value * needed)
            for key, value in four.items()
            if key.endswith("_a_trial")
        },
    }
    return found


def run(arguments: argparse.Namespace) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        found = {"journal": measure(str(Path(folder) / "journal"))}
    if arguments.storage:
        found["database"] = measure(arguments.storage)
    write_json(
        ROOT / "reports" / "benchmarks" / "tuning.json",
        {"processor": processor(), "trials": TRIALS, "seconds_of_a_trial": TRIAL_SECONDS, **found},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("--storage", help="URL of a PostgreSQL database to measure as well")
    arguments = parser.parse_args(argv)
    return report_errors(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
