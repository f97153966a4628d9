from pathlib import Path

import numpy as np
import pytest

from src.data.kermany import list_archive_images
from src.data.patients import Patients, patient_of


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person123_bacteria_456.jpeg", "bacteria-123"),
        ("person123_virus_456.jpeg", "virus-123"),
        ("person447_virus_921_1.jpeg", "virus-447"),
        ("IM-0115-0001.jpeg", "IM-115"),
        ("IM-0115-0001-0002.jpeg", "IM-115"),
        ("NORMAL2-IM-0587-0001-0002.jpeg", "NORMAL2-IM-587"),
        ("NORMAL-1049278-0001.jpeg", "NORMAL-1049278"),
        ("BACTERIA-1049278-0003.jpeg", "BACTERIA-1049278"),
        ("VIRUS-7-0001.PNG", "VIRUS-7"),
        ("im-0115-0001.jpeg", "IM-115"),
        ("train/PNEUMONIA/person123_virus_456.jpeg", "virus-123"),
        ("something else.png", "something else.png"),
        ("sample-0-0001.png", "sample-0-0001.png"),  # such a name is no patient's
        ("train/NORMAL/1.png", "train/NORMAL/1.png"),
        ("test/NORMAL/1.png", "test/NORMAL/1.png"),
        ("IM-0115-0001/1.png", "IM-0115-0001/1.png"),
        ("noextension", "noextension"),
    ],
)
def test_the_name_tells_the_patient(name: str, patient: str) -> None:
    assert patient_of(name) == patient


def test_the_real_archive_has_the_published_patients_and_none_crosses(archive: Path) -> None:
    listing = list_archive_images(archive, 1 << 33)
    patients: dict[tuple[str, str], set[str]] = {}
    for split, label, name in listing.images:
        patients.setdefault((split, label), set()).add(patient_of(name))
    assert {place: len(names) for place, names in patients.items()} == {
        ("train", "NORMAL"): 1211,
        ("train", "PNEUMONIA"): 2443,
        ("test", "NORMAL"): 225,
        ("test", "PNEUMONIA"): 203,
    }
    for label in ("NORMAL", "PNEUMONIA"):
        assert not patients["train", label] & patients["test", label]


@pytest.mark.parametrize(
    ("patients", "fraction", "expected"),
    [(2, 0.5, 1), (2, 0.01, 1), (10, 0.01, 1), (3, 0.99, 2), (10, 0.2, 2), (10, 0.24, 2)],
)
def test_at_least_one_patient_is_held_out_and_one_kept(
    patients: int, fraction: float, expected: int
) -> None:
    kept, held = Patients(np.arange(patients)).split(fraction, np.random.default_rng(1))
    assert len(held) == expected
    assert sorted([*kept, *held]) == list(range(patients))


def test_held_out_images_are_of_whole_patients_and_of_about_the_fraction() -> None:
    ids = np.random.default_rng(0).integers(0, 40, 300)
    shares = []
    for seed in range(50):
        kept, held = Patients(ids).split(0.2, np.random.default_rng(seed))
        assert not set(ids[kept]) & set(ids[held])
        assert sorted([*kept, *held]) == list(range(300))
        shares.append(len(held) / 300)
    assert np.mean(shares) == pytest.approx(0.2, abs=0.01)
    assert np.ptp(shares) < 0.06


def test_one_patient_alone_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="two patients"):
        Patients(np.zeros(9, dtype=int)).split(0.5, np.random.default_rng(0))


def test_a_subset_may_be_of_all_patients_and_is_of_one_at_least() -> None:
    patients = Patients(np.arange(12) // 3)
    assert len(patients.subset(1.0, np.random.default_rng(0))) == 12
    assert len(patients.subset(0.001, np.random.default_rng(0))) == 3


def test_one_image_of_each_patient_is_any_of_them() -> None:
    names = ["a", "a", "a", "b", "c", "c"]
    patients = Patients.from_names(names)
    drawn = set()
    for seed in range(100):
        rows = patients.one_image_each(3, np.random.default_rng(seed))
        assert sorted(names[row] for row in rows) == ["a", "b", "c"]
        some = patients.one_image_each(2, np.random.default_rng(seed))
        assert len({names[row] for row in some}) == len(some) == 2
        drawn |= {int(row) for row in rows}
    assert drawn == set(range(6))
    assert len(patients.one_image_each(9, np.random.default_rng(1))) == 3


def test_matched_halves_share_no_patient_and_are_as_large() -> None:
    counts = [1] * 20 + [2] * 7 + [5, 9, 9, 30]
    patients = Patients(np.random.default_rng(0).permutation(np.repeat(np.arange(31) * 3, counts)))
    in_first = []
    for seed in range(200):
        first, second = patients.matched_halves(np.random.default_rng(seed))
        assert sorted([*first, *second]) == list(range(len(patients)))
        assert (np.diff(first) > 0).all()
        whose = [set(patients.ids[half].tolist()) for half in (first, second)]
        assert not whose[0] & whose[1]
        assert abs(len(whose[0]) - len(whose[1])) == 1
        assert abs(len(first) - len(second)) <= 30
        ones = [np.isin(patients.ids[half], np.arange(20) * 3).sum() for half in (first, second)]
        assert abs(int(ones[0]) - int(ones[1])) <= 2
        in_first.append([number * 3 in whose[0] for number in range(31)])
    # Each patient comes into either half as often.
    assert np.abs(np.mean(in_first, axis=0) - 0.5).max() < 0.15
    again = patients.matched_halves(np.random.default_rng(3))
    assert np.array_equal(again[0], patients.matched_halves(np.random.default_rng(3))[0])
    with pytest.raises(ValueError, match="two patients"):
        Patients(np.zeros(4, np.int64)).matched_halves(np.random.default_rng(0))
