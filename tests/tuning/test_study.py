"""Studies: the first trial, the total over all workers, and trials whose worker died."""

import fcntl
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from src.common.addresses import sqlite_address
from src.common.errors import UserError
from src.tuning import storage
from src.tuning.objective import TrialError
from src.tuning.sampler import SeededSampler
from src.tuning.storage import (
    REASON,
    DatabaseStore,
    JournalStore,
    Store,
    open_store,
    original_number,
    study_name,
)
from src.tuning.study import TrialLedger, fail_if_surplus, run_trials

GIVEN = [{"x": 0.5, "kind": "a"}]


def a_study(store: Store, given: Sequence[dict[str, Any]] = GIVEN) -> optuna.Study:
    return optuna.create_study(
        storage=store.storage,
        study_name="s",
        load_if_exists=True,
        sampler=SeededSampler(given, 2, 7),
    )


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    return x + (trial.suggest_categorical("kind", ["a", "b"]) == "b")


def test_the_first_trial_is_the_given_one_and_the_total_is_kept(store: JournalStore) -> None:
    study = a_study(store)
    run_trials(study, store, 5, objective)
    ledger = TrialLedger.of(study, 5, 2)
    assert ledger.is_finished
    assert len(ledger.ended) == len(study.trials) == 5
    assert study.trials[0].params == GIVEN[0]
    assert study.trials[1].params != GIVEN[0]
    run_trials(a_study(store), store, 5, objective)  # there is nothing left to do
    assert len(study.trials) == 5
    run_trials(a_study(store), store, 6, objective)
    assert len(study.trials) == 6


def test_a_search_by_one_worker_comes_out_the_same_again(tmp_path: Path) -> None:
    found = []
    # The second one is ended in between, which makes no difference.
    for name, totals in (("one", (8,)), ("two", (3, 8))):
        store = JournalStore(tmp_path / name, 2)
        for total in totals:
            run_trials(a_study(store), store, total, objective)
        found.append([trial.params for trial in a_study(store).trials])
    assert found[0] == found[1]


def test_what_a_user_can_mend_costs_a_trial_no_try(store: JournalStore) -> None:
    """As where the weights of the judge are missing, however often it is started so."""
    study = a_study(store)

    def without_weights(trial: optuna.Trial) -> float:
        objective(trial)
        trial.set_user_attr("mmd", 0.5)
        raise UserError("weights.pth: there is no such file")

    for _ in range(5):
        with pytest.raises(UserError, match="no such file"):
            run_trials(study, store, 1, without_weights)
    reached: list[float | None] = []

    def as_usual(trial: optuna.Trial) -> float:
        reached.append(trial.user_attrs.get("mmd"))
        return objective(trial)

    run_trials(study, store, 1, as_usual)
    assert [trial.state for trial in TrialLedger.of(study, 1, 2).trials] == [TrialState.COMPLETE]
    assert reached == [None]  # and has nothing of what an earlier attempt had reached


def test_a_trial_that_fails_is_recorded_and_does_not_end_the_study(store: JournalStore) -> None:
    def failing(trial: optuna.Trial) -> float:
        if trial.number == 1:
            raise TrialError("it diverged")
        return objective(trial)

    study = a_study(store)
    run_trials(study, store, 3, failing)
    ledger = TrialLedger.of(study, 3, 2)
    assert ledger.count(TrialState.FAIL) == 1
    assert study.trials[1].user_attrs[REASON] == "it diverged"
    assert len(ledger.complete) == 2
    assert [trial.number for trial in ledger.ranked] == sorted(
        (0, 2), key=lambda number: study.trials[number].values[0]
    )


def test_a_defect_ends_the_worker(store: JournalStore) -> None:
    def defect(trial: optuna.Trial) -> float:
        raise ZeroDivisionError

    study = a_study(store)
    with pytest.raises(ZeroDivisionError):
        run_trials(study, store, 3, defect)
    # It was not the trial's fault.
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_where_a_trial_cannot_be_held_the_reason_is_told(
    store: JournalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where the journal lies on a file system without locks."""

    def refuse(trial: optuna.Trial) -> Any:
        raise UserError("no locks here")

    monkeypatch.setattr(store, "lease", refuse)
    study = a_study(store)
    with pytest.raises(UserError, match="no locks here"):
        run_trials(study, store, 3, objective)
    assert capsys.readouterr().err == ""  # nobody says that another worker has it
    assert len(TrialLedger.of(study, 3, 2).ended) == 0


def test_a_trial_that_was_interrupted_is_tried_again_and_counted_once(store: JournalStore) -> None:
    def interrupted(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number == 2:
            raise KeyboardInterrupt
        return value

    study = a_study(store)
    with pytest.raises(KeyboardInterrupt):
        run_trials(study, store, 4, interrupted)
    run_trials(study, store, 4, objective)
    ledger = TrialLedger.of(study, 4, 2)
    assert len(ledger.ended) == 4
    assert [original_number(trial) for trial in ledger.trials] == [0, 1, 2, 4]
    again = ledger.trials[2]
    assert again.params == study.trials[2].params
    assert study.trials[2].state == TrialState.FAIL


def test_every_given_point_is_tried_though_some_were_cut_off(store: JournalStore) -> None:
    given = [{"x": x, "kind": "a"} for x in (0.1, 0.2, 0.3, 0.4)]
    study = a_study(store, given)

    def interrupted(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number == 1:
            raise KeyboardInterrupt
        return value

    with pytest.raises(KeyboardInterrupt):
        run_trials(study, store, 4, interrupted)
    run_trials(a_study(store, given), store, 4, objective)
    ledger = TrialLedger.of(study, 4, 2)
    assert [trial.params["x"] for trial in ledger.trials] == [0.1, 0.2, 0.3, 0.4]
    assert len(study.trials) == 5


def test_interrupts_are_not_counted_as_deaths(store: JournalStore) -> None:
    def interrupted(trial: optuna.Trial) -> float:
        objective(trial)
        raise KeyboardInterrupt

    study = a_study(store)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            run_trials(study, store, 1, interrupted)
    run_trials(study, store, 1, objective)
    ledger = TrialLedger.of(study, 1, 2)
    assert len(ledger.complete) == 1
    assert ledger.complete[0].params == GIVEN[0]


def test_a_trial_whose_queueing_was_cut_off_is_queued_all_the_same(store: JournalStore) -> None:
    study = a_study(store)
    objective(study.ask())
    study.tell(0, state=TrialState.FAIL)  # and the worker was killed before more
    assert not TrialLedger.of(study, 1, 2).is_finished
    run_trials(study, store, 1, objective)
    assert len(TrialLedger.of(study, 1, 2).complete) == 1
    assert len(study.trials) == 2


def test_a_database_finds_a_trial_that_died_before_its_first_heartbeat(tmp_path: Path) -> None:
    store = DatabaseStore(f"sqlite:///{tmp_path}/study.db", 2, 8)
    store._heartbeat_timeout = timedelta(0)
    study = a_study(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is not Study.optimize
        objective(study.ask())
    run_trials(study, store, 2, objective)
    ledger = TrialLedger.of(study, 2, 2)
    assert len(ledger.complete) == 2
    assert original_number(study.trials[1]) == 0
    store.close()


def run_trial_that_never_ends(path: Path, began: Any) -> None:
    store = JournalStore(path, 2)

    def endless(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number == 1:
            began.set()
            time.sleep(600)
        return value

    run_trials(a_study(store), store, 4, endless)


def test_the_trial_of_a_worker_that_was_killed_is_found_by_its_lease(
    store: JournalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[FrozenTrial] = []
    store.on_dead_trial = cut.append
    context = multiprocessing.get_context("spawn")
    began = context.Event()
    process = context.Process(target=run_trial_that_never_ends, args=(tmp_path / "journal", began))
    process.start()
    assert began.wait(60)
    monkeypatch.setattr(storage, "LEASE_GRACE", timedelta(0))
    study = a_study(store)
    store.recover_dead_trials(study)
    assert study.trials[1].state == TrialState.RUNNING  # its worker is alive
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    run_trials(study, store, 4, objective)
    ledger = TrialLedger.of(study, 4, 2)
    assert len(ledger.ended) == len(ledger.complete) == 4
    assert [trial.number for trial in cut] == [1]
    assert ledger.trials[1].params == study.trials[1].params
    assert ledger.trials[1].number != 1


def test_a_trial_that_kills_its_workers_is_given_up(
    store: JournalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "LEASE_GRACE", timedelta(0))
    study = a_study(store)
    for _ in range(3):  # the first and two retries
        objective(study.ask())
        store.recover_dead_trials(study)
    ledger = TrialLedger.of(study, 1, 2)
    assert ledger.is_finished
    assert ledger.count(TrialState.FAIL) == 1
    assert REASON not in ledger.trials[0].user_attrs


def test_a_trial_that_ends_while_it_is_looked_at_is_not_taken_for_a_dead_ones(
    store: JournalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[FrozenTrial] = []
    store.on_dead_trial = cut.append
    study = a_study(store)
    trial = study.ask()
    monkeypatch.setattr(storage, "LEASE_GRACE", timedelta(0))
    take = storage.try_lock

    def after_it_has_ended(path: Path) -> Any:
        study.tell(trial, 1.0)
        return take(path)

    monkeypatch.setattr(storage, "try_lock", after_it_has_ended)
    store.recover_dead_trials(study)
    assert study.trials[0].state == TrialState.COMPLETE
    assert cut == []


def test_a_trial_that_has_just_begun_is_not_taken_for_a_dead_ones(store: JournalStore) -> None:
    study = a_study(store)
    study.ask()
    store.recover_dead_trials(study)
    assert study.trials[0].state == TrialState.RUNNING


def test_of_two_that_begin_a_last_trial_at_once_the_later_steps_back(store: JournalStore) -> None:
    study = a_study(store)
    run_trials(study, store, 2, objective)
    beside, extra = study.ask(), study.ask()
    fail_if_surplus(study, beside, 3)
    with pytest.raises(TrialError, match="enough"):
        fail_if_surplus(study, extra, 3)
    study.tell(beside, 0.1)
    study.tell(extra, state=TrialState.FAIL)
    ledger = TrialLedger.of(study, 3, 2)
    assert len(ledger.ended) == 3
    assert ledger.count(TrialState.FAIL) == 0


def test_a_worker_that_others_took_for_dead_goes_on_with_the_next_trial(
    store: JournalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number == 1:
            trial.study.tell(1, state=TrialState.FAIL)
            store.requeue(trial.study, trial.study.trials[1])
        return value

    study = a_study(store)
    run_trials(study, store, 3, slow)
    assert len(TrialLedger.of(study, 3, 2).ended) == 3
    assert "given to another worker" in capsys.readouterr().err


def test_the_lease_is_held_until_the_result_is_told(store: JournalStore, tmp_path: Path) -> None:
    seen = []

    def looking(trial: optuna.Trial) -> float:
        (path,) = (tmp_path / "journal.leases").iterdir()
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                seen.append(path.name)
        return objective(trial)

    run_trials(a_study(store), store, 2, looking)
    assert seen == ["s-0", "s-1"]
    assert list((tmp_path / "journal.leases").iterdir()) == []


def test_a_database_keeps_studies_too_and_its_password_is_not_repeated(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/study.db", 2, 8)
    assert isinstance(store, DatabaseStore)
    study = a_study(store)
    run_trials(study, store, 3, objective)
    assert TrialLedger.of(study, 3, 2).is_finished
    assert store.storage.get_heartbeat_interval() == 2
    store.close()
    with pytest.raises(UserError) as caught:
        open_store("postgresql://me:secret@127.0.0.1:1/none", 2, 8)
    assert "cannot be used" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    for content in (b'{"a": 1}\n', b"hello", b"\xff\xfe\n", b"3\n"):
        (tmp_path / "notes").write_bytes(content)
        with pytest.raises(UserError, match="not the journal of a study"):
            open_store(str(tmp_path / "notes"), 2, 8)
        assert (tmp_path / "notes").read_bytes() == content
    with pytest.raises(UserError, match="not the journal of a study"):
        open_store(str(tmp_path), 2, 8)
    with pytest.raises(UserError, match="not the URL of a database"):
        open_store("://", 2, 8)


@pytest.mark.parametrize("mark", ["/", " ", "@", "#", "?", "\n", "%2F", "%20", "&", "'"])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter{}moon@127.0.0.1:1/none",
        "postgresql+psycopg://me:hunter{}moon@127.0.0.1:port/none",
        "postgresql+psycopg://127.0.0.1:1/none?user=me&password=hunter{}moon",
        "nothing://me:hunter{}moon@host/x",
    ],
)
def test_no_message_shows_a_part_of_a_database_s_password(url: str, mark: str) -> None:
    with pytest.raises(UserError, match=r"^--storage: ") as caught:
        open_store(url.format(mark), 2, 8)
    assert "hunter" not in str(caught.value)
    assert "moon" not in str(caught.value)


def test_a_database_s_file_is_the_one_that_its_url_names(tmp_path: Path) -> None:
    folder = tmp_path / "a?b #%20"
    folder.mkdir()
    with pytest.raises(UserError, match="write %3F for"):
        open_store(f"sqlite:///{folder}/study.db", 2, 8)
    open_store(sqlite_address(folder / "study.db"), 2, 8).close()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert (folder / "study.db").is_file()


def test_other_content_means_another_study() -> None:
    name = study_name("normal", "search", {"a": 1})
    assert name.startswith("normal-search-")
    assert name == study_name("normal", "search", {"a": 1})
    assert name != study_name("normal", "search", {"a": 2})
