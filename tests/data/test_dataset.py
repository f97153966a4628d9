from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.common import paths as workspace
from src.common.errors import UserError
from src.common.paths import array_path
from src.config.settings import parse_settings
from src.data import dataset
from src.data.classes import CLASSES
from src.data.dataset import ImageSet, check_counts, train_checksum, train_sets
from src.data.dataset import test_sets as sets_to_judge_by
from src.data.patients import Patients


@pytest.fixture(autouse=True)
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Prepared images of three patients a class, and their table."""
    monkeypatch.setattr(workspace, "PROJECT", tmp_path)
    rows = []
    for label in ("NORMAL", "PNEUMONIA"):
        path = array_path(label, "train")
        path.parent.mkdir(parents=True)
        np.save(path, np.arange(48, dtype=np.uint8).reshape(3, 4, 4))
        rows += [
            {"split": "train", "label": label, "patient": f"p{i}", "sha256": f"{label}{i}"}
            for i in range(3)
        ]
    table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "data" / "arrays" / "table.csv", index=False)
    return table


def test_the_checksum_names_images_of_both_classes_and_whose_they_are(
    arrays: pd.DataFrame, tmp_path: Path
) -> None:
    first = train_checksum()
    assert train_checksum() == first
    changed = np.load(array_path("PNEUMONIA", "train"))
    changed[2, 3, 3] = 0
    np.save(array_path("PNEUMONIA", "train"), changed)
    second = train_checksum()
    assert second != first
    arrays.loc[0, "patient"] = "p9"
    arrays.to_csv(tmp_path / "data" / "arrays" / "table.csv", index=False)
    assert train_checksum() not in (first, second)


def test_what_is_missing_is_named_with_the_way_out() -> None:
    array_path("NORMAL", "train").unlink()
    with pytest.raises(UserError, match=r"normal/train\.npy: it is missing; `dvc repro` makes it"):
        train_checksum()


def test_test_images_of_patients_or_files_of_the_train_split_are_not_judged_by(
    arrays: pd.DataFrame, tmp_path: Path
) -> None:
    images = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    for label in CLASSES:
        np.save(array_path(label, "test"), images if label == "NORMAL" else images[:0])
    place = {"split": "test", "label": "NORMAL"}
    whose = (("q1", "new"), ("p1", "another image of p1"), ("q2", "NORMAL0"), ("q3", "PNEUMONIA0"))
    rows = [place | {"patient": name, "sha256": checksum} for name, checksum in whose]
    table = tmp_path / "data" / "arrays" / "table.csv"
    pd.concat([arrays, pd.DataFrame(rows)]).to_csv(table, index=False)
    found = sets_to_judge_by()["NORMAL"]
    np.testing.assert_array_equal(found.images, images[[0, 3]])
    assert found.patients.count == 2
    np.save(array_path("NORMAL", "test"), images[1:3])
    pd.concat([arrays, pd.DataFrame(rows[1:3])]).to_csv(table, index=False)
    found = sets_to_judge_by()["NORMAL"]
    assert found.images.shape == (0, 4, 4)
    assert len(found.patients) == 0


def test_a_patient_with_train_images_of_the_other_class_is_not_judged_by(
    arrays: pd.DataFrame, tmp_path: Path
) -> None:
    arrays.loc[arrays["label"] == "PNEUMONIA", "patient"] = ["a", "b", "c"]
    images = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    rows = []
    for label, patients in (("NORMAL", ["a", "q", "p0"]), ("PNEUMONIA", ["q", "p1", "d"])):
        np.save(array_path(label, "test"), images)
        rows += [
            {"split": "test", "label": label, "patient": patient, "sha256": f"{label}{patient}"}
            for patient in patients
        ]
    table = tmp_path / "data" / "arrays" / "table.csv"
    pd.concat([arrays, pd.DataFrame(rows)]).to_csv(table, index=False)
    found = sets_to_judge_by()
    np.testing.assert_array_equal(found["NORMAL"].images, images[[1]])
    np.testing.assert_array_equal(found["PNEUMONIA"].images, images[[0, 2]])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda lines: lines[:-1], "it has 2 rows of 3 images in train/PNEUMONIA"),
        (lambda lines: [*lines, lines[-1]], "it has 4 rows of 3 images in train/PNEUMONIA"),
        (lambda lines: [], "it has 0 rows of 3 images"),
        (lambda lines: [*lines[:-1], "train"], ""),
    ],
)
def test_a_table_that_does_not_fit_its_images_is_refused(
    tmp_path: Path, damage: Any, reason: str
) -> None:
    """Images would be judged under other patients' names, or left out without a word."""
    table = tmp_path / "data" / "arrays" / "table.csv"
    table.write_text("\n".join(damage(table.read_text().splitlines())) + "\n")
    with pytest.raises(UserError, match=rf"table\.csv: it cannot be read \(.*{reason}.*dvc repro"):
        train_sets()


def test_the_table_is_parsed_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    read_rows = dataset.read_rows
    monkeypatch.setattr(dataset, "read_rows", lambda path: parsed.append(path) or read_rows(path))
    for _ in range(3):
        train_sets()
    train_checksum()
    assert len(parsed) == 1


def test_joined_sets_keep_their_patients_apart() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None]
    normal = ImageSet.of_class(images[:3], "NORMAL", Patients(np.array([0, 0, 1])))
    pneumonia = ImageSet.of_class(images[3:], "PNEUMONIA", Patients(np.array([0, 0])))
    both = ImageSet.joined([normal, pneumonia])
    assert both.images[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert both.patients.ids.tolist() == [0, 0, 1, 2, 2]
    assert both.class_indices("PNEUMONIA").tolist() == [3, 4]
    part = both.take(np.array([4, 0]))
    assert part.is_pneumonia.tolist() == [True, False]
    assert part.patients.ids.tolist() == [2, 0]


def test_parameters_that_need_more_images_are_refused_before_any_training(
    arrays: pd.DataFrame, tmp_path: Path, params: dict[str, Any]
) -> None:
    rows = [
        {"split": "test", "label": label, "patient": f"q{i}", "sha256": f"test {label}{i}"}
        for label in CLASSES
        for i in range(5)
    ]
    for label in CLASSES:
        np.save(array_path(label, "test"), np.zeros((5, 4, 4), dtype=np.uint8))
    table = tmp_path / "data" / "arrays" / "table.csv"
    pd.concat([arrays, pd.DataFrame(rows)]).to_csv(table, index=False)
    params["fid"]["sample_size"] = 5
    for name in ("normal", "pneumonia"):
        params["train"][name]["batch_size"] = 3
    check_counts(parse_settings(params))
    params["fid"]["sample_size"] = 6
    with pytest.raises(UserError, match=r"fid\.sample_size: 6 .* the 5 test images of NORMAL"):
        check_counts(parse_settings(params))
    params["train"]["pneumonia"]["batch_size"] = 4
    with pytest.raises(UserError, match=r"train\.pneumonia\.batch_size: 4 .* the 3 train images"):
        check_counts(parse_settings(params))
