import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from src.tracking import outbox
from src.tracking.delivery import sync
from src.tracking.outbox import Outbox
from src.tracking.runs import start_run
from tests.tracking.conftest import client, killed, log_four, only_run, outboxes, steps

# As written before the modules of tracking were split; what waits in this form is still delivered.
OLD_HEADER = {
    "experiment": "chest-xray-gan",
    "name": "train_normal (workspace)",
    "tags": {"dvc.stage": "train_normal"},
    "time": 1_700_000_000_000,
    "goes_on": True,
    "run_id": None,
    "asked": False,
    "key": "0123456789abcdef",
}
OLD_EVENTS = """\
{"kind": "params", "values": {"a": "1"}, "time": 1700000000001}
{"kind": "metrics", "values": {"g": 0.5}, "step": 1, "time": 1700000000002}
{"kind": "files", "file": "2-0123abcd", "to": "notes", "time": 1700000000003}
{"kind": "tag", "key": "data.sha256", "value": "abc", "time": 1700000000004}
"""


def test_an_outbox_from_before_is_delivered(tmp_path: Path) -> None:
    folder = tmp_path / ".tracking" / "work"
    (folder / "files" / "2-0123abcd").mkdir(parents=True)
    (folder / "files" / "2-0123abcd" / "note.txt").write_text("hello")
    header = {"store": f"sqlite:///{tmp_path / 'mlflow.db'}", **OLD_HEADER}
    (folder / "run.json").write_text(json.dumps(header))
    (folder / "events.jsonl").write_text(OLD_EVENTS)
    assert sync(tmp_path).delivered == ["train_normal (workspace)"]
    run = only_run(tmp_path)
    assert run.info.status == "KILLED"
    assert run.data.params == {"a": "1"}
    assert run.data.tags["data.sha256"] == "abc"
    assert steps(tmp_path, run) == [1]
    (note,) = client(tmp_path).list_artifacts(run.info.run_id, "notes")
    assert note.path == "notes/note.txt"


def test_a_line_that_was_cut_off_is_no_entry(tmp_path: Path) -> None:
    killed(tmp_path, log_four)
    with (tmp_path / ".tracking" / "work" / "events.jsonl").open("a") as events:
        events.write('{"kind": "met')
    sync(tmp_path)
    assert steps(tmp_path, only_run(tmp_path)) == [1, 2, 3, 4]


def test_what_follows_a_damaged_line_is_lost_with_a_warning_and_the_rest_arrives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path, log_four)
    events = tmp_path / ".tracking" / "work" / "events.jsonl"
    lines = events.read_text().splitlines(keepends=True)
    (fourth,) = (place for place, line in enumerate(lines) if '"step": 4' in line)
    lines[fourth] = '{"kind": "met' + lines[fourth]
    events.write_text("".join(lines))
    sync(tmp_path)
    assert steps(tmp_path, only_run(tmp_path)) == [1, 2, 3]
    lost = len(lines) - fourth
    assert f"{lost} entries for MLflow are lost" in capsys.readouterr().err


def test_an_entry_for_which_the_disk_has_no_room_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spool"
    with closing(Outbox.create(folder, {"name": "a", "store": "http://host"})) as made:
        made.append({"kind": "tag", "key": "a", "value": "1"})
        opened = Path.open

        def full(self: Path, *arguments: Any, **named: Any) -> Any:
            with opened(self, *arguments, **named) as stream:
                stream.write('{"kind": "ta')
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            made.append({"kind": "tag", "key": "b", "value": "2"})
        monkeypatch.setattr(Path, "open", opened)
        made.append({"kind": "end", "status": "FAILED"})
    found = Outbox.open(folder, wait=False)
    assert found is not None
    with closing(found):
        assert [event["kind"] for event in found.events] == ["tag", "end"]


@pytest.mark.parametrize(("told", "delivered"), [("7", 2), ("", 0), ("1", 1)])
def test_after_a_power_cut_no_more_counts_as_delivered_than_there_is(
    tmp_path: Path, told: str, delivered: int
) -> None:
    with closing(Outbox.create(tmp_path / "spool", {"name": "a", "store": "http://host"})) as made:
        for key in ("a", "b"):
            made.append({"kind": "tag", "key": key, "value": "1"})
    (tmp_path / "spool" / "delivered").write_text(told)
    found = Outbox.open(tmp_path / "spool", wait=False)
    assert found is not None
    with closing(found):
        assert (found.delivered, found.pending) == (delivered, 2 - delivered)


def test_of_works_that_may_go_on_only_the_newest_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_KEPT", 2)
    for number in range(4):
        with pytest.raises(KeyboardInterrupt), start_run("a", tmp_path, {}, {}, f"work{number}"):
            raise KeyboardInterrupt
        os.utime(tmp_path / ".tracking" / f"work{number}" / "events.jsonl", (number, number))
    (tmp_path / ".tracking" / ".new-left").mkdir()
    os.utime(tmp_path / ".tracking" / ".new-left", (1, 1))
    sync(tmp_path)
    assert {path.name for path in outboxes(tmp_path)} == {"work2", "work3"}
