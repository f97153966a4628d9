"""Trials a minute that a search's storage and sampler bear: `python -m benchmarks.tuning`.

1, 2 and 4 workers run trials that only choose values and report three scores. The storage is a
journal file and, with `--storage URL`, a PostgreSQL database, whose new studies may be deleted
afterwards. The baseline is Optuna's own loop in one process on the same storage. Writes
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
from src.tuning.sampler import SeededSampler
from src.tuning.search import encode, suggest_value
from src.tuning.storage import Store, open_store
from src.tuning.study import TrialLedger, run_trials

WORKERS = (1, 2, 4)
TRIALS = 120
EVALUATIONS = 3
TRIAL_SECONDS = 60.0  # of a real trial with its scores, for the load of a thousand workers
MANY_WORKERS = 1000


def open_study(settings: Settings, store: Store, name: str) -> optuna.Study:
    """Open or create a study with the sampler and pruner of a search."""
    space = settings.tune.space
    point = {name: encode(v) for name, v in current(settings.train.normal, space).items()}
    return optuna.create_study(
        storage=store.storage,
        study_name=name,
        load_if_exists=True,
        sampler=SeededSampler([point], settings.tune.startup_trials, 1),
        pruner=MedianPruner(settings.tune.startup_trials),
    )


def objective(settings: Settings, trial: optuna.Trial) -> float:
    """Choose values and report scores, as a trial does, but train nothing."""
    chosen = [suggest_value(trial, name, among) for name, among in settings.tune.space.items()]
    score = float(sum(len(str(value)) for value in chosen))
    for evaluation in range(EVALUATIONS):
        trial.report(score, evaluation)
        trial.should_prune()
    trial.set_user_attr("distance", score)
    return score


def work(storage: str, name: str, total: int) -> None:
    """Run trials of a study in a worker process until it has ``total``."""
    settings = load_settings(ROOT / "params.yaml")
    store = open_store(storage, 2, 60)
    study = open_study(settings, store, name)
    run_trials(study, store, total, lambda trial: objective(settings, trial))


def trials_a_minute(trials: Sequence[optuna.trial.FrozenTrial]) -> float:
    """Return the rate from the first trial's start to the last one's end."""
    start = min(trial.datetime_start for trial in trials if trial.datetime_start)
    end = max(trial.datetime_complete for trial in trials if trial.datetime_complete)
    return 60 * len(trials) / (end - start).total_seconds()


def read_load(storage: str) -> dict[str, float]:
    """Return the work that a storage has done so far: bytes and records, or the database's."""
    if "://" not in storage:
        content = Path(storage).read_bytes()
        return {"bytes": len(content), "records": content.count(b"\n")}
    query = (
        "SELECT xact_commit + xact_rollback, tup_returned + tup_fetched, "
        "tup_inserted + tup_updated FROM pg_stat_database WHERE datname = current_database()"
    )
    engine = create_engine(storage)
    time.sleep(2)  # PostgreSQL updates its statistics late
    with engine.connect() as connection:
        row = connection.execute(text(query)).one()
    engine.dispose()
    return {"transactions": row[0], "rows_read": row[1], "rows_written": row[2]}


def measure(storage: str) -> dict[str, Any]:
    """Measure one storage; return the baseline, each number of workers, and a thousand's load."""
    settings = load_settings(ROOT / "params.yaml")
    store = open_store(storage, 2, 60)
    token = uuid.uuid4().hex[:6]

    # Measure the baseline.
    plain = open_study(settings, store, f"bench-{token}-plain")
    plain.optimize(lambda trial: objective(settings, trial), n_trials=TRIALS)
    baseline = trials_a_minute(plain.trials)
    rates: dict[str, Any] = {"plain": {"trials_a_minute": round(baseline)}}

    # Measure workers.
    context = multiprocessing.get_context("spawn")
    for workers in WORKERS:
        name = f"bench-{token}-{workers}"
        study = open_study(settings, store, name)
        before = read_load(storage)
        processes = [
            context.Process(target=work, args=(storage, name, TRIALS)) for _ in range(workers)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        after = read_load(storage)
        ledger = TrialLedger.of(study, TRIALS, 2)
        rate = trials_a_minute(ledger.trials)
        rates[f"{workers} workers"] = {
            "trials_a_minute": round(rate),
            "against_plain": round(rate / baseline, 2),
            "accounted_for": len(ledger.ended),
            **{f"{key}_a_trial": round((after[key] - before[key]) / TRIALS, 1) for key in after},
        }
        logger.info(f"{workers} workers: {json.dumps(rates[f'{workers} workers'])}")

    # Extrapolate the load of a thousand workers with real trials.
    needed = MANY_WORKERS / TRIAL_SECONDS
    rates["a thousand workers"] = {
        "trials_a_second": round(needed, 1),
        **{
            key.replace("_a_trial", "_a_second"): round(value * needed)
            for key, value in rates[f"{WORKERS[-1]} workers"].items()
            if key.endswith("_a_trial")
        },
    }
    return rates


def run(database: str | None) -> None:
    """Measure a journal file and a database if its URL is given; write the JSON file."""
    with tempfile.TemporaryDirectory() as folder:
        measured = {"journal": measure(str(Path(folder) / "journal"))}
    if database:
        measured["database"] = measure(database)
    head = {"processor": processor(), "trials": TRIALS, "seconds_of_a_trial": TRIAL_SECONDS}
    write_json(ROOT / "reports" / "benchmarks" / "tuning.json", head | measured)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("--storage", help="URL of a PostgreSQL database to measure as well")
    arguments = parser.parse_args(argv)
    return report_errors(lambda: run(arguments.storage))


if __name__ == "__main__":
    sys.exit(main())
