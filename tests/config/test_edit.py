"""Editing params.yaml changes the values and nothing else."""

from src.config.edit import changed_leaves, difference, edited
from tests.conftest import ROOT

TEXT = (ROOT / "params.yaml").read_text()


def test_without_changes_not_a_byte_changes() -> None:
    assert edited(TEXT, {}) == TEXT


def test_only_the_lines_of_changed_values_change_and_keep_their_comments() -> None:
    changes = {
        "train.normal.generator.channels": [64, 32],
        "train.pneumonia.optimizer.generator.learning_rate": 0.0003,
        "train.normal.loss": "hinge",
    }
    after = edited(TEXT, changes).splitlines()
    before = TEXT.splitlines()
    assert len(after) == len(before)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 3
    for old, new in changed:
        assert old.partition("#")[2] == new.partition("#")[2]
    assert changed[0][1].split("#")[0].strip() == "channels: [64, 32]"
    assert "learning_rate: 0.0003," in changed[2][1]


def test_the_difference_shows_old_and_new() -> None:
    after = edited(TEXT, {"train.normal.loss": "hinge"})
    shown = difference(TEXT, after, "params.yaml").splitlines()
    assert shown[0] == "--- params.yaml"
    assert [line[0] for line in shown[3:]] == ["-", "+"]


def test_leaves_that_differ_are_named_by_their_place() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": "x"}
    after = {"a": {"b": 1, "c": [1]}, "d": "y"}
    assert changed_leaves(before, after) == {"a.c": [1], "d": "y"}
