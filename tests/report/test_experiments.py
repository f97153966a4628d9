from typing import Any

import pytest

from src.common.errors import report_errors
from src.report.comparison import known_experiments, with_experiments, write_comparison
from src.report.experiments import Experiment, compare, render_experiments


def fid(distance: float) -> dict[str, Any]:
    frechet = {"value": distance, "low": 0.1, "high": 0.9, "floor": 0.05, "score_at_floor_n": 0.6}
    return {
        "verdict": {"result": "undecided", "share": 0.98},
        "scores": {"NORMAL": {"frechet": frechet, "recall": {"value": 0.25}}},
    }


def state(rev: str, batch: int, distance: float, **more: Any) -> dict[str, Any]:
    """An experiment as DVC shows it."""
    params = {
        "train": {"normal": {"batch_size": batch, "kernels": [3, 3]}},
        "data": {"source": "x"},
    }
    metrics = {"reports/metrics/fid.json": {"data": fid(distance)}}
    return {"rev": rev, "data": {"params": {"params.yaml": {"data": params}}, "metrics": metrics}}


def shown() -> list[dict[str, Any]]:
    wider = {"name": "wider", "revs": [state("c" * 40, 64, 0.4)], "executor": None}
    queued = {"name": "queued", "revs": None, "executor": None}
    failed = {"name": "failed", "revs": [{"rev": "d" * 40, "data": None}], "executor": None}
    return [
        state("workspace", 32, 0.5) | {"name": None, "experiments": None},
        state("a" * 40, 32, 0.5) | {"name": "main", "experiments": None},
        state("b" * 40, 16, 0.7) | {"name": None, "experiments": [wider, queued, failed]},
    ]


def test_experiments_stand_after_what_they_started_from() -> None:
    names = [found.name for found in known_experiments(shown())]
    assert names == ["workspace", "main", "b" * 9, "wider"]


def test_a_machine_without_git_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert report_errors(write_comparison) == 1
    assert capsys.readouterr().err == "error: git for-each-ref: git is not installed\n"


def test_only_commits_are_shown_that_experiments_began_from() -> None:
    first, second = ("a" * 40, "b" * 40)
    names = [f"{commit[:2]}/{commit[2:]}" for commit in (first, second)]
    references = [
        f"refs/exps/{names[1]}/wider",
        "refs/exps/exec/EXEC_HEAD",
        f"refs/exps/{names[0]}/deeper",
        f"refs/exps/{names[1]}/real",
    ]
    assert with_experiments(references) == [second, first]


def test_what_differs_stands_beside_the_scores() -> None:
    table = compare(known_experiments(shown())).set_index("experiment")
    assert "train.normal.batch_size" in table
    assert "train.normal.kernels" not in table
    assert "data.source" not in table
    row = table.loc["wider"]
    assert row["train.normal.batch_size"] == "64"
    assert row["NORMAL, Fréchet distance"] == "0.400"
    assert row["NORMAL, 95 % interval"] == "0.100 to 0.900"
    assert row["NORMAL, floor"] == "0.05"
    assert row["NORMAL, recall"] == "0.250"
    assert row["hypothesis"] == "undecided"
    assert row["draws in its favour"] == "98%"


def test_the_classes_have_the_names_of_the_workspace() -> None:
    """Those of older commits, which name none, are not a difference."""
    renamed = shown()
    names = {"normal": "healthy", "pneumonia": "COVID-19"}
    renamed[0]["data"]["params"]["params.yaml"]["data"]["data"]["names"] = names
    table = compare(known_experiments(renamed)).set_index("experiment")
    assert table.loc["wider", "healthy, recall"] == "0.250"
    assert table["data.names.normal"].tolist() == ["healthy", *["NORMAL"] * 3]
    assert not [column for column in table if column.startswith("NORMAL")]
    assert "data.names.normal" not in compare(known_experiments(shown()))


def test_an_old_record_has_no_verdict_on_the_hypothesis() -> None:
    old = Experiment("old", "f" * 40, {}, {"fid": {"verdict": {"holds": True, "share": 1.0}}})
    row = compare([old]).iloc[0]
    assert row["hypothesis"] == ""
    assert row["draws in its favour"] == "100%"


def test_an_experiment_without_scores_or_of_other_parameters_leaves_places_empty() -> None:
    old = Experiment("old", "f" * 40, {"gone": "1"}, {})
    table = compare([*known_experiments(shown()), old]).set_index("experiment")
    assert table.loc["old", "NORMAL, Fréchet distance"] == ""
    assert table.loc["old", "train.normal.batch_size"] == ""
    assert table.loc["wider", "gone"] == ""


def test_names_are_escaped() -> None:
    hostile = Experiment("<script>alert(1)</script>", "f" * 40, {"data.path": "<img src=x>"}, {})
    html = render_experiments(compare([hostile, Experiment("b", "c", {"data.path": ""}, {})]))
    assert "<script>alert" not in html
    assert "<img src=x>" not in html
