from pathlib import Path

import numpy as np
import pytest

from src.data.tables import ArrayWriter, Fingerprints, atomic_table, count_rows, read_rows


@pytest.mark.parametrize("rows", [0, 1, 12_345])
def test_an_array_written_by_rows_is_numpys(tmp_path: Path, rows: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (rows, 3, 2), dtype=np.uint8)
    with ArrayWriter(tmp_path / "a.npy", (3, 2)) as writer:
        for image in images:
            writer.append(image)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), images)
    np.save(tmp_path / "b.npy", images)
    assert len((tmp_path / "a.npy").read_bytes()) == len((tmp_path / "b.npy").read_bytes())


def test_a_table_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = [{"file": 'a "quoted", name', "label": "NORMAL"}, {"file": "b\né", "label": ""}]
    with atomic_table(path, ["file", "label"]) as table:
        table.writerows(rows)
        assert not path.exists()
    assert list(read_rows(path)) == rows
    assert count_rows(path) == 2
    with pytest.raises(ValueError, match="broken"), atomic_table(path, ["file"]) as table:
        raise ValueError("broken")
    assert list(read_rows(path)) == rows
    assert list(tmp_path.iterdir()) == [path]


def test_fingerprints_count_what_sets_count() -> None:
    first, second = ["a", "b", "b", "c"], ["b", "c", "c", "d", ""]
    ours, theirs = Fingerprints(), Fingerprints()
    for text in first:
        ours.add(text)
    for text in second:
        theirs.add(text)
    assert ours.count_distinct() == len(set(first))
    assert ours.count_repeated() == 1
    assert theirs.count_in(ours) == 3  # b, c and c again
    assert theirs.count_distinct_in(ours) == len(set(first) & set(second))
    assert Fingerprints().count_distinct() == Fingerprints().count_in(ours) == 0
