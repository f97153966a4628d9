from pathlib import Path

import pytest

from src import promote
from src.promote import main, reason_against
from src.tracking.registered_model import CANDIDATE, CHAMPION, registered_name
from src.tracking.registry import model_version
from src.tracking.runs import start_run
from tests.tracking.conftest import package

GOOD = {"frechet": "0.5", "privacy": "no sign of copying", "judged_by": "a"}


@pytest.mark.parametrize(
    ("candidate", "champion", "reason"),
    [
        ({}, None, None),
        ({}, {"frechet": "0.6"}, None),
        ({}, {"frechet": "0.5"}, "0.5 is not lower than the champion's 0.5"),
        ({}, {"frechet": "0.4"}, "0.5 is not lower than the champion's 0.4"),
        ({"privacy": "can't tell"}, {"frechet": "0.6"}, None),
        ({"privacy": "copies"}, {"frechet": "0.6"}, "copies train images"),
        ({"privacy": "copies"}, None, "copies train images"),
        ({"judged_by": "b"}, {"frechet": "0.6"}, "cannot be compared"),
    ],
)
def test_only_a_better_generator_that_copies_nothing_becomes_champion(
    candidate: dict[str, str], champion: dict[str, str] | None, reason: str | None
) -> None:
    found = reason_against(GOOD | candidate, None if champion is None else GOOD | champion)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


def test_a_version_without_scores_is_refused() -> None:
    assert "no scores" in str(reason_against({}, None))
    assert "cannot be compared" in str(reason_against(GOOD, {}))


def test_the_alias_moves_to_what_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(promote, "HOME", tmp_path)
    name = registered_name("NORMAL")

    def candidate(**tags: str) -> None:
        with start_run("report", tmp_path, {}, {}) as run:
            run.log_generator(package(tmp_path, **(GOOD | tags)))

    def champion() -> int | None:
        found = model_version(tmp_path, name, CHAMPION)
        return None if found is None else found.number

    assert main(["--class", "normal"]) == 1
    assert "it has no candidate; `dvc repro`" in capsys.readouterr().err
    candidate(privacy="copies")
    assert main([]) == 1  # each is told, and not the first alone
    refused = capsys.readouterr().err
    assert "it copies train images" in refused
    assert "pneumonia: it has no candidate" in refused
    candidate()
    assert champion() is None  # never of itself
    with monkeypatch.context() as patch:
        patch.setattr(promote, "count_waiting", lambda root: 2)
        assert main(["--class", "normal"]) == 0
    assert "2 runs wait for MLflow, maybe with newer candidates" in capsys.readouterr().err
    assert champion() == 2
    candidate(frechet="0.7")
    assert main(["--class", "normal"]) == 1
    assert "not lower" in capsys.readouterr().err
    assert champion() == 2
    candidate(frechet="0.3", privacy="copies")
    assert main(["--class", "normal"]) == 1
    candidate(frechet="0.3")
    assert main(["--class", "normal"]) == 0
    assert "instead of version 2 (distance 0.5" in capsys.readouterr().out
    assert champion() == 5
    assert main(["--class", "normal"]) == 0
    assert "the champion already" in capsys.readouterr().out
    found = model_version(tmp_path, name, CANDIDATE)
    assert found is not None
    assert found.number == 5
