import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.tracking.runs import Run, archive_run, start_run
from tests.tracking.conftest import (
    client,
    deliver_four,
    killed,
    log_four,
    log_some,
    only_run,
    outboxes,
    steps,
)


def test_everything_that_is_logged_arrives(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    many = {f"section.key{number}": str(number) for number in range(150)}
    with start_run("train", tmp_path, many, {"dvc.stage": "train_normal"}) as run:
        for epoch in range(1, 1201):
            run.log_metrics({"g": 1 / epoch, "d1": 0.5}, epoch)
        for step in (1, 2):
            run.log_image("samples", np.full((8, 8), 9, dtype=np.uint8), step)
        run.log_file(tmp_path / "note.txt", "notes")
        run.log_table("fid/describe.json", pd.DataFrame({"pair": ["RNxRP"], "mean": [1.5]}))
        run.set_tag("data.sha256", "abc")
    found = only_run(tmp_path)
    assert found.info.status == "FINISHED"
    assert len(found.data.params) == 150
    assert found.data.tags["dvc.stage"] == "train_normal"
    assert found.data.tags["data.sha256"] == "abc"
    history = client(tmp_path).get_metric_history(found.info.run_id, "g")
    assert [metric.step for metric in history] == list(range(1, 1201))
    names = [file.path for file in client(tmp_path).list_artifacts(found.info.run_id)]
    assert {"images", "notes", "fid"} <= set(names)
    assert len(client(tmp_path).list_artifacts(found.info.run_id, "images")) >= 4


def test_images_and_tables_are_as_mlflow_itself_logs_them(tmp_path: Path) -> None:
    image = np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
    table = pd.DataFrame({"pair": ["RNxRP", "é"], "mean": [1 / 3, 2.0]}, index=[4, 5])
    with start_run("ours", tmp_path, {}, {}) as run:
        run.log_image("samples", image, 3)
        run.log_table("fid/describe.json", table)
        run.log_table("scores.json", table)
    ours = only_run(tmp_path)
    theirs = client(tmp_path).create_run(ours.info.experiment_id)
    client(tmp_path).log_image(theirs.info.run_id, Image.fromarray(image), key="samples", step=3)
    for name in ("fid/describe.json", "scores.json"):
        client(tmp_path).log_table(theirs.info.run_id, table, name)
    found = []
    for run_id in (ours.info.run_id, theirs.info.run_id):
        place = Path(tempfile.mkdtemp(dir=tmp_path))
        client(tmp_path).download_artifacts(run_id, "", str(place))
        files = [file for file in place.rglob("*") if file.is_file()]
        # Their names have the time and a random part.
        contents = {
            re.sub(r"timestamp\+[0-9]+\+[0-9a-f-]{36}", "", str(file.relative_to(place))): (
                file.read_bytes() if file.suffix == ".json" else np.asarray(Image.open(file))
            )
            for file in files
        }
        tags = client(tmp_path).get_run(run_id).data.tags
        found.append(
            (contents, {key: tags[key] for key in tags if key.startswith("mlflow.logged")})
        )
    (our_files, our_tags), (their_files, their_tags) = found
    assert our_tags == their_tags
    assert len(our_files) == 4
    assert our_files.keys() == their_files.keys()
    for name, content in our_files.items():
        assert np.array_equal(content, their_files[name]), name


def test_artifacts_have_an_absolute_place(tmp_path: Path) -> None:
    root = tmp_path / "a folder with spaces and é"
    root.mkdir()
    (tmp_path / "mlflow.db").rename(root / "mlflow.db")
    (root / "note.txt").write_text("hello")
    with start_run("a", root, {}, {}) as run:
        run.log_file(root / "note.txt")
    assert only_run(root).info.artifact_uri.startswith("file:///")
    assert list((root / "mlartifacts").rglob("note.txt"))


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_that_ends_badly_says_so(
    tmp_path: Path, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), start_run("a", tmp_path, {}, {}):
        raise error
    assert only_run(tmp_path).info.status == status


def test_an_exported_run_id_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_run("parent", tmp_path, {}, {}) as parent:
        monkeypatch.setenv("MLFLOW_RUN_ID", str(parent.run_id))
        with start_run("child", tmp_path, {}, {}) as child:
            assert child.run_id != parent.run_id


@pytest.mark.parametrize("work", [log_four, deliver_four, lambda run: None])
def test_a_run_that_was_cut_off_is_taken_up_and_nothing_is_logged_twice(
    tmp_path: Path, work: Callable[[Run], None]
) -> None:
    killed(tmp_path, work)
    first = only_run(tmp_path).info.run_id
    with start_run("train", tmp_path, {"a": "1"}, {"dvc.experiment": "y"}, "work") as second:
        assert only_run(tmp_path).info.status == "RUNNING"
        log_some(second, 6)
    found = only_run(tmp_path)
    assert found.info.run_id == first
    assert found.info.status == "FINISHED"
    assert found.data.tags["dvc.experiment"] == "y"
    for name in ("g", "d1"):
        assert steps(tmp_path, found, name) == [1, 2, 3, 4, 5, 6]
    files = [f.path for f in client(tmp_path).list_artifacts(found.info.run_id, "images")]
    assert len([file for file in files if file.endswith(".png")]) == 3
    archive_run(tmp_path, "work")
    assert outboxes(tmp_path) == []
    with start_run("train", tmp_path, {"a": "1"}, {}, "work") as third:
        assert third.run_id != first


def test_a_run_of_other_parameters_is_not_taken_up_and_its_end_is_told(tmp_path: Path) -> None:
    killed(tmp_path, log_four)
    first = only_run(tmp_path).info.run_id
    with start_run("train", tmp_path, {"a": "2"}, {}, "work") as run:
        assert run.run_id != first
    found = client(tmp_path).get_run(first)
    assert found.info.status == "KILLED"
    assert steps(tmp_path, found) == [1, 2, 3, 4]


def test_a_run_that_somebody_deleted_is_made_anew(tmp_path: Path) -> None:
    killed(tmp_path, deliver_four)
    client(tmp_path).delete_run(only_run(tmp_path).info.run_id)
    with start_run("train", tmp_path, {"a": "1"}, {}, "work") as run:
        log_some(run, 5)
    assert steps(tmp_path, only_run(tmp_path)) == [1, 2, 3, 4, 5]
