"""Names of studies, the values of a trial, and the result of a search."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from src.common.errors import UserError
from src.config.settings import Settings, parse_settings
from src.config.tune import Range
from src.report.search import render_search
from src.tuning import figures
from src.tuning import search as search_module
from src.tuning.figures import study_figures
from src.tuning.objective import TrialError
from src.tuning.result import SearchResult, SeedRepeats, collect_result
from src.tuning.search import Search, decode, encode, open_finished_study
from src.tuning.storage import FIRST_BYTES, REASON, JournalStore
from src.tuning.study import TrialLedger
from tests.conftest import set_value


@pytest.fixture
def search(tiny_settings: Settings) -> Search:
    return Search(tiny_settings, "normal", "search", "data", "")


def changed(tiny: dict[str, Any], *place: str, value: Any) -> Settings:
    set_value(*place, value=value)(tiny)
    return parse_settings(tiny)


@pytest.mark.parametrize(
    ("place", "value", "same"),
    [
        (("tune", "trials"), 99, True),
        (("tune", "top_trials"), 9, True),
        (("tune", "repeat_seeds"), 9, True),
        (("fid", "iterations"), 9, True),
        (("fid", "scores", "resamples"), 11, True),
        (("train", "normal", "epochs"), 9, True),
        (("train", "normal", "samples", "rows"), 1, True),
        (("train", "pneumonia", "batch_size"), 4, True),
        (("tune", "budget"), 99, False),
        (("tune", "seed"), 99, False),
        (("tune", "space", "loss"), ["hinge", "bce"], False),
        (("train", "normal", "batch_size"), 4, False),
        (("fid", "dims"), 16, False),
    ],
)
def test_a_study_is_another_one_where_scores_could_not_be_compared(
    search: Search, tiny: dict[str, Any], place: tuple[str, ...], value: Any, same: bool
) -> None:
    other = Search(changed(tiny, *place, value=value), "normal", "search", "data", "")
    assert (other.name == search.name) == same


def test_other_data_another_class_or_other_aims_mean_another_study(
    search: Search, tiny_settings: Settings
) -> None:
    names = {
        search.name,
        Search(tiny_settings, "normal", "search", "other data", "").name,
        Search(tiny_settings, "normal", "search", "data", "other weights").name,
        Search(tiny_settings, "pneumonia", "search", "data", "").name,
        Search(tiny_settings, "normal", "pareto", "data", "").name,
    }
    assert len(names) == 5


def test_another_objective_means_another_study(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = search.name
    monkeypatch.setattr(search_module, "OBJECTIVE", "frechet")
    assert search.name != before


def test_lists_survive_optuna_and_numbers_are_as_a_person_sets_them(search: Search) -> None:
    among = search.space["augmentation"]
    assert [decode(among, encode(choice)) for choice in among] == list(among)
    assert decode(search.space["optimizer.generator.learning_rate"], 0.00123456) == 0.00123
    assert decode(search.space["generator.latent_dim"], 11) == 11
    near_one = Range(low=0.99, high=0.9999, log=False)
    assert decode(near_one, 0.99964321) == 0.999643
    assert decode(Range(low=0.0, high=0.3, log=False), 0.123456) == 0.1235
    assert decode(Range(low=0.0, high=0.99999, log=False), 0.99996) == 0.99999
    assert decode(Range(low=0.0011111, high=1.0, log=True), 0.0011112) == 0.0011111


def test_the_current_configuration_is_never_rounded(tiny: dict[str, Any]) -> None:
    place = ("train", "normal", "optimizer", "generator", "learning_rate")
    settings = changed(tiny, *place, value=0.0005625)
    search = Search(settings, "normal", "search", "data", "")
    name = "optimizer.generator.learning_rate"
    assert search.values({name: 0.0005625}) == {name: 0.0005625}
    assert search.values({name: 0.0005626}) == {name: 0.000563}


def test_what_makes_no_sense_together_is_a_failed_trial(
    tiny: dict[str, Any],
) -> None:
    settings = changed(tiny, "tune", "space", "generator.depth", value=[0, 5])
    search = Search(settings, "normal", "search", "data", "")
    with pytest.raises(TrialError, match="does not divide"):
        search.configuration({"generator.latent_dim": 8, "generator.depth": 5})


DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "optimizer.generator.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "loss": CategoricalDistribution(["bce", "hinge"]),
}


def trial(value: float | None, rate: float, loss: str, **attributes: Any) -> FrozenTrial:
    return create_trial(
        state=TrialState.FAIL if value is None else TrialState.COMPLETE,
        value=value,
        params={"optimizer.generator.learning_rate": rate, "loss": loss},
        distributions=DISTRIBUTIONS,
        user_attrs=attributes,
    )


@pytest.fixture
def result(search: Search, store: JournalStore) -> SearchResult:
    study = search.open_study(store)
    study.add_trials(
        [
            trial(2.0, 0.001, "bce"),
            trial(1.0, 0.0020004, "hinge", mmd=0.5, frechet_distance=7.0),
            trial(None, 0.01, "bce", **{REASON: "it diverged"}),
            trial(1.5, 0.004, "bce"),
        ]
    )
    repeated = optuna.create_study(storage=store.storage)
    whole = {"trial": CategoricalDistribution([0, 1, 3]), "seed": CategoricalDistribution([2, 3])}
    for number, seed, value in ((0, 2, 2.2), (0, 3, 2.4), (1, 2, 1.6), (1, 3, 2.0), (3, 2, 0.1)):
        repeated.add_trial(
            create_trial(value=value, params={"trial": number, "seed": seed}, distributions=whole)
        )
    return collect_result(search, study, repeated)


def test_lists_are_shown_as_words(search: Search, store: JournalStore) -> None:
    """Those of the current configuration, which are read from another place, as well."""
    study = search.open_study(store)
    now = search.train.augmentation
    among = search.space["augmentation"]
    assert not isinstance(among, Range)
    options = [encode(choice) for choice in among if isinstance(choice, tuple)]
    other = next(choice for choice in among if choice != now)
    for value in (encode(now), encode(other)):
        study.add_trial(
            create_trial(
                value=1.0,
                params={"augmentation": value},
                distributions={"augmentation": CategoricalDistribution(options)},
            )
        )
    result = collect_result(search, study, None)
    words = [", ".join(map(str, value)) or "none" for value in (now, other)]  # type: ignore[arg-type]
    assert result.table()["augmentation"].tolist() == words
    assert result.changes(study.trials[1]) == {"augmentation": tuple(words)}


def test_the_best_mean_is_chosen_among_those_that_every_seed_allowed(result: SearchResult) -> None:
    assert [part.trial for part in result.repeats] == [1, 0]  # trial 3 failed with a seed
    assert result.repeats[0].mean == pytest.approx(1.8)
    assert result.repeats[0].std == pytest.approx(0.2828, abs=1e-3)
    chosen = result.chosen_trial()
    assert chosen.number == 1
    assert result.configuration(chosen).loss == "hinge"
    assert result.configuration(chosen).optimizer.generator.learning_rate == 0.002
    assert result.chosen_trial(3).number == 3
    for number in (2, 7):
        with pytest.raises(UserError, match=f"trial {number} does not exist or has no score"):
            result.chosen_trial(number)


def test_the_result_says_what_was_gained(result: SearchResult) -> None:
    assert result.verdict() == (
        "Trial 1 may be better than the current configuration. Mean excess, 2 other seeds: 1.800 "
        "against 2.300; the gain is not significant (Welch test, 5 %)."
    )
    assert not result.is_gain
    sure = [SeedRepeats(1, [1.6, 1.61, 1.62]), SeedRepeats(0, [2.2, 2.21, 2.22])]
    better = SearchResult(result.search, result.study, result.ledger, sure)
    assert better.is_gain
    assert better.verdict().endswith("the gain is significant (Welch test, 5 %).")
    assert result.changes(result.chosen_trial()) == {
        "optimizer.generator.learning_rate": (0.001, 0.002),
        "loss": ("bce", "hinge"),
    }
    lucky = SearchResult(
        result.search, result.study, result.ledger, [SeedRepeats(1, [1.0]), SeedRepeats(0, [2.0])]
    )
    assert lucky.verdict().endswith("against 2.000; one seed cannot exclude chance.")
    nothing = SearchResult(result.search, result.study, result.ledger, [SeedRepeats(0, [1.0])])
    assert nothing.verdict().startswith("Nothing was gained: the current configuration has")
    table = result.table().set_index("trial")
    assert list(table["state"]) == ["complete", "complete", "fail", "complete"]
    assert table.loc[2, "reason"] == "it diverged"
    assert table.loc[1, ["mmd", "frechet_distance"]].tolist() == [0.5, 7.0]
    assert np.isnan(table.loc[0, "excess_low"])


def test_the_current_configuration_may_fail_once_and_yet_win_with_other_seeds(
    search: Search, store: JournalStore
) -> None:
    study = search.open_study(store)
    study.add_trials([trial(None, 0.001, "bce", **{REASON: "it diverged"}), trial(1, 0.002, "bce")])
    again = Search.repetition(search, TrialLedger.of(study, 2, 2))
    assert again.trial_numbers == (0, 1)
    best_first = [SeedRepeats(0, [1.0, 1.1]), SeedRepeats(1, [2.0, 2.1])]
    result = SearchResult(search, study, TrialLedger.of(study, 2, 2), best_first)
    assert result.chosen_trial().number == 0
    assert result.changes(result.chosen_trial()) == {}
    assert result.verdict().startswith("Nothing was gained")
    assert result.summary()["chosen"] == 0


def test_where_no_trial_has_a_score_the_reasons_are_told(
    search: Search, store: JournalStore
) -> None:
    study = search.open_study(store)
    study.add_trials([trial(None, 0.01, "bce", **{REASON: "it diverged"})] * 3)
    failed = collect_result(search, study, None)
    assert failed.verdict() == "No trial has a score: it diverged (3)."
    with pytest.raises(UserError, match=r"it diverged \(3\)"):
        failed.chosen_trial()
    front = Search(search.settings, "normal", "pareto", "data", "")
    nothing = SearchResult(front, study, failed.ledger, [])
    assert nothing.verdict() == "No trial has a score: it diverged (3)."


def test_where_every_repetition_failed_their_reasons_are_told(
    search: Search, store: JournalStore
) -> None:
    study = search.open_study(store)
    study.add_trials([trial(1.0, 0.01, "bce")])
    again = optuna.create_study(storage=store.storage)
    again.add_trials([trial(None, 0.01, "bce", **{REASON: "it collapsed"})] * 2)
    failed = collect_result(search, study, again)
    told = "None of the best trials has a score with another seed: it collapsed (2)."
    assert failed.verdict() == told
    with pytest.raises(UserError, match="it collapsed"):
        failed.chosen_trial()


def test_trials_beyond_those_wanted_do_not_count(search: Search, store: JournalStore) -> None:
    """Another command wants more of the same study, while or after this one is at work."""
    study = search.open_study(store)
    total = search.settings.tune.trials
    study.add_trials([trial(9.0 - i, 0.001 + i / 1e4, "bce") for i in range(total)])
    repetition = search.repetition(search.ledger(study))
    again = repetition.open_study(store)
    study.add_trial(trial(0.1, 0.009, "hinge"))
    ledger = search.ledger(study)
    assert ledger.is_finished
    assert ledger.extra == 1
    assert search.repetition(ledger).name == repetition.name
    numbers = {"trial": IntDistribution(0, 99), "seed": IntDistribution(0, 99)}
    again.add_trials(
        [
            create_trial(value=1.0, params=point, distributions=numbers)
            for point in repetition.points
        ]
    )
    result = collect_result(search, study, again)
    assert {part.trial for part in result.repeats} == {0, total - 1}
    assert len(result.table()) == total
    with pytest.raises(UserError, match=f"trial {total} does not exist"):
        result.chosen_trial(total)


def test_the_front_is_of_trials_that_no_other_beats_in_both_aims(
    search: Search, store: JournalStore, tiny: dict[str, Any]
) -> None:
    front = Search(search.settings, "normal", "pareto", "data", "")
    study = front.open_study(store)
    for values in ((3, 1), (1, 3), (2, 2), (2, 3), (3, 3)):
        study.add_trial(create_trial(values=values))
    result = collect_result(front, study, None)
    assert [trial.number for trial in result.front()] == [0, 2, 1]
    # A plot shows the trials that count, and no more of another command.
    study.add_trial(create_trial(values=(0, 0)))
    few = parse_settings(set_value("tune", "trials", value=5)(tiny) or tiny)
    counted = collect_result(Search(few, "normal", "pareto", "data", ""), study, None)
    assert len(figures._counted_study(counted).trials) == 5
    assert [trial.number for trial in counted.front()] == [0, 2, 1]


def test_the_first_and_the_best_are_repeated_with_seeds_that_the_search_did_not_use(
    search: Search, result: SearchResult
) -> None:
    repetition = search.repetition(TrialLedger.of(result.study, 4, 2))
    assert repetition.trial_numbers == (0, 1)  # tune.top_trials is 1
    seed = search.train.seed
    assert repetition.points == [
        {"trial": number, "seed": seed + i} for i in (1, 2) for number in (0, 1)
    ]


def test_the_page_shows_the_result_and_escapes_what_it_is_told(
    result: SearchResult, tiny: dict[str, Any]
) -> None:
    result.study.add_trial(trial(None, 0.01, "bce", **{REASON: "<script>alert(1)</script>"}))
    five = changed(tiny, "tune", "trials", value=5)
    again = collect_result(Search(five, "normal", "search", "data", ""), result.study, None)
    told = SearchResult(result.search, result.study, again.ledger, result.repeats)
    page = render_search(told, {"history": b"png"})
    assert result.verdict() in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<h2>Figures</h2>" in page
    assert "<h2>Figures</h2>" not in render_search(told, {})
    assert "it diverged" in page
    assert 'src="data:image/png;base64,cG5n"' in page
    assert "<td>loss</td><td>bce</td><td>hinge</td>" in page
    assert page.count("<table>") == page.count('<div class="scroll"><table>') > 2  # on a phone


def test_the_page_calls_the_class_by_its_name(result: SearchResult, tiny: dict[str, Any]) -> None:
    assert "<h1>Search for NORMAL</h1>" in render_search(result, {})
    named = changed(tiny, "data", "names", "normal", value="A & B")
    search = Search(named, "normal", "search", "data", "")
    assert search.name == result.search.name
    page = render_search(replace(result, search=search), {})
    assert "<h1>Search for A &amp; B</h1>" in page
    assert "NORMAL" not in page


def test_the_plots_are_pictures_and_need_some_trials(search: Search, store: JournalStore) -> None:
    study = search.open_study(store)
    assert study_figures(collect_result(search, study, None)) == {}
    for i in range(12):
        study.add_trial(trial(2.0 - i / 10, 0.001 + i / 2000, ["bce", "hinge"][i % 2]))
    figures = study_figures(collect_result(search, study, None))
    assert figures.keys() == {"history", "importances", "parallel"}
    assert all(content.startswith(b"\x89PNG") for content in figures.values())


def test_lists_of_numbers_are_shown_as_words(tiny: dict[str, Any], store: JournalStore) -> None:
    kernels = tiny["train"]["normal"]["generator"]["kernels"]
    among = [kernels, [5] * len(kernels)]
    settings = changed(tiny, "tune", "space", value={"generator.kernels": among})
    search = Search(settings, "normal", "search", "data", "")
    study = search.open_study(store)
    name = "generator.kernels"
    options = CategoricalDistribution([encode(choice) for choice in among])
    for choice in among:
        study.add_trial(
            create_trial(value=1.0, params={name: encode(choice)}, distributions={name: options})
        )
    words = [", ".join(map(str, choice)) for choice in among]
    assert collect_result(search, study, None).table()[name].tolist() == words


def test_only_a_study_that_has_ended_is_chosen_from(search: Search, store: JournalStore) -> None:
    message = f"{search.name}: this study of the present parameters has not ended"
    with pytest.raises(UserError, match=message):
        open_finished_study(search, store)
    assert optuna.get_all_study_names(store.storage) == []  # nothing was made
    study = search.open_study(store)
    total = search.settings.tune.trials
    for number in range(total):
        with pytest.raises(UserError, match=message):
            open_finished_study(search, store)
        study.add_trial(trial(1.0 + number, 0.001, "bce"))
    assert len(open_finished_study(search, store).trials) == total


def test_a_journal_survives_half_a_first_line(
    search: Search, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal"
    for half in (b'{"op', b'{"op_code": 0, "worker_id": "'):
        path.write_bytes(half)
        search.open_study(JournalStore(path, 2))
        assert "the last line is cut off" in capsys.readouterr().err
        assert path.read_bytes().startswith(FIRST_BYTES)


def test_a_journal_survives_half_a_line_of_a_full_disk(
    search: Search, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal"
    search.open_study(JournalStore(path, 2)).add_trial(trial(1.0, 0.01, "bce"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "worker')
    study = search.open_study(JournalStore(path, 2))
    assert "the last line is cut off" in capsys.readouterr().err
    study.add_trial(trial(2.0, 0.01, "bce"))
    values = [t.values[0] for t in search.open_study(JournalStore(path, 2)).trials]
    assert values == [1.0, 2.0]
    assert path.read_bytes().startswith(whole)


def test_a_journal_that_is_damaged_in_the_middle_is_refused_by_name(
    search: Search, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    search.open_study(JournalStore(path, 2)).add_trial(trial(1.0, 0.01, "bce"))
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, b"half a li\n", *rest]))
    with pytest.raises(UserError, match="journal: the journal is damaged"):
        JournalStore(path, 2)


def test_the_lock_of_a_journal_named_relatively_is_found(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna waits without end for one that a killed worker left, if it cannot see its age."""
    monkeypatch.chdir(tmp_path)
    targets: list[str] = []
    link = os.symlink

    def noting(target: str, place: str) -> None:
        targets.append(target)
        link(target, place)

    monkeypatch.setattr(os, "symlink", noting)
    search.open_study(JournalStore(Path("studies/journal"), 2))
    assert set(targets) == {str(tmp_path / "studies" / "journal")}
