"""The search as a user runs it: it goes on after every end, counts once, and is adopted."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import mlflow
import optuna
import pandas as pd
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from ruamel.yaml import YAML

from src import tune as module
from src.common.errors import UserError
from src.config.settings import load_settings, parse_settings
from src.config.train import TrainSettings
from src.tuning import apply, worker
from src.tuning import workers as pool
from src.tuning.search import Search
from src.tuning.storage import open_store, original_number
from src.tuning.study import TrialLedger
from src.tuning.worker import RUN, divide_host
from tests.conftest import ROOT, set_value
from tests.pipeline.project import Project
from tests.servers import PASSWORD, mlflow_server, postgres

SEARCH = ("python3", "-m", "src.tune", "--class", "normal")


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {1, 3, 5, 7})
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert divide_host(1) == [((1, 3, 5, 7), None)]
    assert divide_host(2) == [((1, 3), None), ((5, 7), None)]
    assert [cores for cores, _ in divide_host(6)] == [(1,), (3,), (5,), (7,), (1,), (3,)]


@pytest.mark.parametrize(("given", "threads"), [(None, 4), ("1", 1), ("9", 4)])
def test_a_worker_computes_with_its_cores_or_with_fewer_threads_where_told(
    monkeypatch: pytest.MonkeyPatch, given: str | None, threads: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {1, 3, 5, 7})
    monkeypatch.setattr("os.sched_setaffinity", lambda process, cores: None)
    monkeypatch.setattr("src.common.processes._cpu_quota", lambda root: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    limits: list[int] = []
    monkeypatch.setattr(
        worker, "threadpool_limits", lambda limit: nullcontext(limits.append(limit))
    )
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    monkeypatch.setattr(worker, "_Worker", lambda task: SimpleNamespace(run=lambda: None))
    worker.work(cast(Any, SimpleNamespace(cores=(1, 3, 5, 7), gpu=None)))
    assert limits == [threads]


def test_workers_share_the_gpus_that_they_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu for _, gpu in divide_host(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [gpu for _, gpu in divide_host(3)] == ["4", "6", "4"]


@pytest.mark.long
def test_workers_that_die_again_and_again_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = tmp_path / "started"
    monkeypatch.setattr(pool, "work_or_exit", partial(_die, started))
    monkeypatch.setattr(pool, "MAX_DEATHS", 2)
    with pytest.raises(UserError, match=r"ended by SIGKILL \d+ times before a trial ended"):
        pool.run_workers([None], OneTrial(started))  # type: ignore[arg-type, list-item]
    assert len(started.read_text()) > 3  # the trial that ended lets deaths count anew
    assert "worker 0 was ended by SIGKILL; another one takes its place" in capsys.readouterr().err


def _die(started: Path, job: object) -> None:
    with started.open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


class OneTrial:
    """A progress view in which one trial ends when the second worker has started."""

    def __init__(self, started: Path) -> None:
        self._started, self._told = started, False

    def update(self) -> int:
        if self._told or not self._started.exists() or len(self._started.read_text()) < 2:
            return 0
        self._told = True
        return 1

    def wait(self) -> None:
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "tune.trials: Input should be greater"),
        (["--set", "tune.budgett=3"], "tune.budgett=3: give an existing parameter"),
        (
            ["--set", "train.normal.loss=bce", "--set", "tune.space={loss: [hinge, wasserstein]}"],
            'train.normal: tune.space.loss: the current configuration has "bce"',
        ),
        (["--trial", "3"], "--trial: it needs --apply and --class"),
        (["--pareto", "--apply"], "--apply: a front has no single best trial"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_work(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.main([*arguments, "--storage", "/nowhere/at/all"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_what_classes_share_in_params_yaml_is_not_changed_for_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: dict[str, Any]
) -> None:
    written = parse_settings(tiny).train.normal
    tiny["train"]["pneumonia"] = tiny["train"]["normal"]
    params = tmp_path / "params.yaml"
    with params.open("w") as file:
        YAML().dump(tiny, file)  # which writes an anchor
    assert "pneumonia: *" in params.read_text()
    monkeypatch.setattr(apply, "PARAMS", params)
    result = OneTrialResult(written.model_copy(update={"batch_size": 2 * written.batch_size}))
    before = params.read_text()
    with pytest.raises(UserError, match=r"would change train.pneumonia.batch_size too; write out"):
        apply.apply_trial(result, written, None)  # type: ignore[arg-type]
    assert params.read_text() == before


class OneTrialResult:
    """A search's result whose only trial has some settings."""

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings
        self.search = SimpleNamespace(label="normal")

    def chosen_trial(self, number: int | None) -> None:
        assert number is None

    def configuration(self, trial: None) -> TrainSettings:
        return self._settings


def test_a_number_of_workers_has_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, message in (("0", "it must be 1 or more"), ("x", "invalid")):
        with pytest.raises(SystemExit, match="2"):
            module.main(["--workers", wrong])
        assert message in capsys.readouterr().err


LIGHT = """
import sys
import src
heavy = ("torch", "optuna", "mlflow", "pandas", "pydantic", "sqlalchemy", "numpy")
sys.modules.update(dict.fromkeys(heavy))  # so that to import one fails
from src.tune import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--help"], 0, "usage: python -m src.tune"),
        (["--class", "lungs"], 2, "invalid choice: 'lungs'"),
        (["--workers", "0"], 2, "it must be 1 or more"),
        (["--trial", "3", "--apply"], 1, "error: --trial: it needs --apply and --class"),
        (["--pareto", "--apply"], 1, "error: --apply: a front has no single best trial"),
    ],
)
def test_help_and_refusals_import_nothing_heavy(
    arguments: list[str], status: int, message: str
) -> None:
    command = [sys.executable, "-c", LIGHT, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert message in done.stdout + done.stderr


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with arrays to train on."""
    project = Project.cloned(tmp_path_factory.mktemp("template"))
    project.change(set_value("fid", "extractor", value="pixels"))
    project.change(set_value("fid", "dims", value=16))
    # With so few images and these features most draws put the classes no farther apart than
    # patients; this one does not.
    project.change(set_value("data", "phantom", "train_per_class", value=60))
    project.change(set_value("tune", "max_images", value=15))
    project.change(set_value("tune", "seed", value=1))
    project.repro("preprocess")
    return project


@pytest.fixture
def project(template: Project, tmp_path: Path) -> Iterator[Project]:
    yield (made := template.copied(tmp_path / "clone"))
    assert made.processes() == []


Studies = Callable[[str], dict[str, optuna.Study]]


@pytest.fixture
def studies() -> Iterator[Studies]:
    """Every study of a storage, open until the test ends."""
    with ExitStack() as stack:
        yield lambda place: stack.enter_context(opened(place))


@contextmanager
def opened(place: str) -> Iterator[dict[str, optuna.Study]]:
    """Every study of a storage, by what comes before the digest in its name."""
    with closing(open_store(place, 0, 60)) as store:
        names = optuna.get_all_study_names(store.storage)
        yield {
            name.rpartition("-")[0]: optuna.load_study(study_name=name, storage=store.storage)
            for name in names
        }


def runs(uri: str) -> pd.DataFrame:
    """All of MLflow's runs whose tags say that they belong to a search."""
    client = mlflow.MlflowClient(uri)  # the global address would be handed on to other tests
    experiments = [found.experiment_id for found in client.search_experiments()]
    return pd.DataFrame(
        {"run_id": run.info.run_id, "status": run.info.status}
        | {f"tags.{key}": value for key, value in run.data.tags.items()}
        | {f"params.{key}": value for key, value in run.data.params.items()}
        | {f"metrics.{key}": value for key, value in run.data.metrics.items()}
        for run in client.search_runs(experiments, "tags.`tune.study` != ''")
    )


@pytest.mark.long
def test_a_search_is_reported_tracked_gone_on_with_and_adopted(
    project: Project, studies: Studies
) -> None:
    output = project.run(*SEARCH)
    assert "trial 0 (the current configuration): excess" in output
    journal = str(project.path / "tune.journal")
    search = studies(journal)["normal-search"]
    assert len(TrialLedger.of(search, 4, 2).ended) == len(search.trials) == 4
    settings = load_settings(project.path / "params.yaml")
    train = settings.train.normal
    assert search.trials[0].params["generator.latent_dim"] == train.generator.latent_dim
    repeated = studies(journal)["normal-seeds"]
    seeds = {(t.params["trial"], t.params["seed"]) for t in repeated.trials}
    assert {seed for _, seed in seeds} == {train.seed + 1, train.seed + 2}
    assert 0 in {number for number, _ in seeds}

    folder = project.path / "reports" / "tune"
    table = pd.read_csv(folder / "normal.csv")
    assert list(table["trial"]) == [0, 1, 2, 3]
    assert table["excess"].notna().sum() == len(TrialLedger.of(search, 4, 2).complete) + sum(
        t.state == TrialState.PRUNED for t in search.trials
    )
    found = json.loads((folder / "normal.json").read_text())
    means = [part["mean"] for part in found["repeated"]]
    assert means == sorted(means)
    assert found["chosen"] == found["repeated"][0]["trial"]
    page = (folder / "normal.html").read_text()
    assert found["sentence"].replace("'", "&#39;") in page

    tracked = runs(f"sqlite:///{project.path}/mlflow.db")
    nested = tracked["tags.mlflow.parentRunId"].notna()
    assert len(tracked[~nested]) == 1
    assert set(tracked[nested]["tags.mlflow.parentRunId"]) == set(tracked[~nested]["run_id"])
    assert nested.sum() == len(search.trials) + len(repeated.trials)
    assert set(tracked["status"]) == {"FINISHED"}
    assert tracked[nested]["metrics.excess"].notna().all()
    for name in ("mmd", "frechet_distance"):
        assert table.loc[table["excess"].notna(), name].notna().all()
        assert tracked[nested][f"metrics.{name}"].notna().all()
    assert tracked[nested]["params.generator.latent_dim"].notna().all()
    assert tracked[~nested]["metrics.excess"].tolist() == pytest.approx([means[0]])
    assert tracked[~nested]["tags.tune.result"].tolist() == [found["sentence"]]

    again = project.run(*SEARCH)
    assert "trial 0" not in again.replace("Trial 0", "")
    assert len(runs(f"sqlite:///{project.path}/mlflow.db")) == len(tracked)

    project.change(set_value("train", "normal", "epochs", value=2))
    before = (project.path / "params.yaml").read_text()
    number = next(n for n in range(1, 4) if search.trials[n].state == TrialState.COMPLETE)
    output = project.run(*SEARCH, "--apply", "--trial", str(number))
    after = (project.path / "params.yaml").read_text()
    comments = [
        [line.partition("#")[2] for line in text.splitlines() if "#" in line]
        for text in (before, after)
    ]
    assert comments[0] == comments[1]
    adopted = load_settings(project.path / "params.yaml").train
    latent = search.trials[number].params["generator.latent_dim"]
    assert adopted.normal.generator.latent_dim == latent
    judged = Search(settings, "normal", "search", "", "").configuration(
        search.trials[number].params
    )
    assert adopted.normal == judged.model_copy(update={"epochs": 2})  # as edited meanwhile
    assert adopted.pneumonia == settings.train.pneumonia
    assert "+      latent" in output or latent == train.generator.latent_dim
    changed = json.loads(project.run("dvc", "params", "diff", "--json"))["params.yaml"]
    assert changed
    assert all(name.startswith(("train.normal.", "fid.", "data.", "tune.")) for name in changed)
    # Another current configuration means another study.
    project.run(*SEARCH, "--trials", "1", "--seeds", "1")
    names = [
        s.study_name for s in optuna.get_all_study_summaries(open_store(journal, 0, 60).storage)
    ]
    assert sum(name.startswith("normal-search-") for name in names) == 2


@pytest.mark.long
def test_both_classes_are_searched_in_turn_and_a_front_has_two_aims(
    project: Project, studies: Studies
) -> None:
    project.run("python3", "-m", "src.tune", "--pareto", "--workers", "2")
    found = studies(str(project.path / "tune.journal"))
    assert found.keys() == {"normal-pareto", "pneumonia-pareto"}
    for study in found.values():
        assert TrialLedger.of(study, 4, 2).is_finished
        assert all(len(trial.values) == 2 for trial in study.best_trials)
        assert all(trial.values[1] == trial.user_attrs["mflop"] for trial in study.best_trials)
    page = (project.path / "reports" / "tune" / "pneumonia-pareto.html").read_text()
    assert "MFLOP per image" in page
    refused = project.run(*SEARCH, "--pareto", "--apply", good=False)
    assert "name one with --class and --trial" in refused


def until(ready: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait for something that a search in the background does."""
    end = time.monotonic() + 240
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)


def workers_of(process: "subprocess.Popen[str]") -> list[int]:
    """The ids of a search's workers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == process.pid and b"spawn_main" in command:
            found.append(int(status.parent.name))
    return found


def test_a_heartbeat_that_ends_with_its_storage_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for error in (StorageInternalError("away"), ValueError("a mistake of ours")):
        pool._on_thread_error(threading.ExceptHookArgs((type(error), error, None, None)))
    told = capsys.readouterr().err
    assert "a mistake of ours" in told
    assert "warning: the storage of the search did not answer" in told
    assert "away" not in told


def long_trials(project: Project, **values: Any) -> None:
    """Trials that take about half a second."""
    for name, value in {"budget": 400, "trials": 8, "repeat_seeds": 1, **values}.items():
        project.change(set_value("tune", name, value=value))


def running(place: str) -> int:
    """How many trials are at work and have a run in the tracker."""
    with opened(place) as found:
        trials = [
            trial
            for study in found.values()
            for trial in study.get_trials(states=(TrialState.RUNNING,))
        ]
    return sum(RUN in trial.user_attrs for trial in trials)


@pytest.mark.long
def test_a_search_that_is_interrupted_goes_on_where_it_was(
    project: Project, studies: Studies
) -> None:
    long_trials(project, budget=4000)
    place = str(project.path / "tune.journal")
    process = project.start(*SEARCH, "--trials", "3")
    until(lambda: running(place) > 0, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert running(place) == 0
    long_trials(project, budget=4000)
    project.run(*SEARCH, "--trials", "3")
    study = studies(place)["normal-search"]
    ledger = TrialLedger.of(study, 3, 2)
    assert len(ledger.ended) == 3
    assert ledger.count(TrialState.FAIL) == 0
    assert original_number(ledger.trials[0]) == 0
    assert len(study.trials) == 4  # one of them twice
    tracked = runs(f"sqlite:///{project.path}/mlflow.db")
    assert sorted(tracked["status"].unique()) == ["FINISHED", "KILLED"]


@pytest.mark.long
def test_a_worker_that_is_killed_loses_its_trial_only(project: Project, studies: Studies) -> None:
    long_trials(project, trials=5, budget=4000)
    place = str(project.path / "tune.journal")
    process = project.start(*SEARCH, "--workers", "2")
    until(lambda: running(place) == 2, process)
    victim = workers_of(process)[0]
    subprocess.run(["kill", "-9", str(victim)], check=True)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert re.search(
        r"warning: worker \d was ended by SIGKILL; another one takes its place", output
    )
    study = studies(place)["normal-search"]
    check_all_accounted_for(study, 5)
    assert sum(original_number(trial) != trial.number for trial in study.trials) == 1


def check_all_accounted_for(study: optuna.Study, total: int) -> None:
    """Every trial has ended, once, and those that were cut off were tried again."""
    ledger = TrialLedger.of(study, total, 2)
    assert len(ledger.ended) == total
    assert len(ledger.trials) == total
    assert ledger.count(TrialState.RUNNING, TrialState.WAITING) == 0
    cut = [trial for trial in study.trials if trial.number not in {t.number for t in ledger.trials}]
    assert all(trial.state == TrialState.FAIL for trial in cut)


@pytest.mark.long
def test_a_database_that_goes_away_and_comes_back_loses_no_trial(
    project: Project, studies: Studies
) -> None:
    long_trials(project, trials=5, heartbeat_timeout_seconds=4, budget=3000)
    with postgres() as server:
        database = server.create("tune")
        search = (*SEARCH, "--workers", "2")
        process = project.start(*search, TUNE_STORAGE=database)
        until(lambda: running(database) == 2, process)
        server.stop()
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 1
        assert "the storage of the search cannot be reached any more" in output
        assert "Traceback" not in output
        assert PASSWORD not in output
        server.start()
        project.run(*search, TUNE_STORAGE=database)
        check_all_accounted_for(studies(database)["normal-search"], 5)


@pytest.mark.long
def test_four_workers_of_two_hosts_search_in_postgresql_and_track_on_a_server(
    project: Project, studies: Studies, tmp_path: Path
) -> None:
    long_trials(project, trials=8, heartbeat_timeout_seconds=4, budget=3000)
    with (
        postgres() as databases,
        mlflow_server(databases.create("mlflow"), tmp_path) as server,
    ):
        database = databases.create("tune")
        place = {"TUNE_STORAGE": database, "MLFLOW_TRACKING_URI": server.address}
        # Two commands, as on two machines, begin at once.
        both = [project.start(*SEARCH, "--workers", "2", **place) for _ in range(2)]
        until(lambda: running(database) == 4, both[0])
        subprocess.run(["kill", "-9", str(workers_of(both[1])[0])], check=True)
        outputs = [process.communicate()[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], outputs
        assert "SIGKILL" in outputs[1]
        found = studies(database)
        check_all_accounted_for(found["normal-search"], 8)
        first = [t for t in found["normal-search"].trials if original_number(t) == 0]
        current = load_settings(project.path / "params.yaml").train.normal
        assert {trial.params["generator.latent_dim"] for trial in first} == {
            current.generator.latent_dim
        }
        assert all(trial.params["generator.width"] == 1 for trial in first)
        tracked = runs(server.address)
        parents = tracked[tracked["tags.mlflow.parentRunId"].isna()]
        assert len(parents) == 1
        nested = tracked[tracked["tags.mlflow.parentRunId"].notna()]
        tried = sum(len(study.trials) for study in found.values())
        assert len(nested) <= tried  # one that stepped back has no run
        assert (nested["status"] == "KILLED").sum() == 1
        assert set(nested["status"]) == {"KILLED", "FINISHED"}
        artifacts = mlflow.MlflowClient(server.address).list_artifacts(
            parents["run_id"].iloc[0], "tune"
        )
        assert "tune/normal.html" in [artifact.path for artifact in artifacts]
    assert PASSWORD not in "".join(outputs)
    assert not (project.path / "tune.journal").exists()
    assert not (ROOT / "tune.journal").exists()
