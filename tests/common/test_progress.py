import sys

import pytest

from src.common import progress as module
from src.common.progress import Progress, duration, progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (185, "3 min 05 s"),
     (3599.4, "59 min 59 s"), (112_800, "31 h 20 min")],
)  # fmt: skip
def test_a_duration_is_said_as_a_person_says_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_away_from_a_terminal_lines_tell_rate_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("train", 100, "images") as shown:
        for _ in range(3):
            clock.now += 4
            shown.advance(10)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "train: 30 of 100 images, 2.5 a second, 28.0 s to go",
        "train: 30 images in 12.0 s",
    ]


def test_what_was_done_before_counts_but_not_for_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("train", 100, "images") as shown:
        shown.resume(60)
        clock.now += 12
        shown.advance(12)
    assert capsys.readouterr().out.splitlines() == [
        "train: 72 of 100 images, 1 a second, 28.0 s to go",
        "train: 12 images in 12.0 s",
    ]


def test_a_note_stands_at_the_end_of_a_line(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("search", 40, "trials") as shown:
        shown.note = "best 0.5"
        clock.now += 20
        shown.advance(10)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "search: 10 of 40 trials, 0.5 a second, 1 min 00 s to go, best 0.5"


def test_long_work_gets_fewer_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("train", 0, "images") as shown:
        for _ in range(24 * 360):
            clock.now += 10
            shown.advance()
    lines = capsys.readouterr().out.splitlines()
    assert 50 < len(lines) < 150
    assert lines[0] == "train: 1 images, 0.1 a second"
    assert lines[-1].endswith("24 h 00 min")


def test_work_that_failed_is_not_said_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), Progress("train", 10, "images"):
        raise ValueError("broken")
    assert capsys.readouterr().out == ""


def test_on_a_terminal_there_is_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress(range(3), "reading", 3, "images")) == [0, 1, 2]
    shown = capsys.readouterr()
    assert "reading: 100%" in shown.err
    assert "3/3" in shown.err
    assert shown.out == ""


def test_nothing_is_told_of_the_rate_before_anything_is_done(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("draw", 10, "images") as shown:
        clock.now += 12
        shown.advance(0)
        assert capsys.readouterr().out == ""
        shown.advance(10)
