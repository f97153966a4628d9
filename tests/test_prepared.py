from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src import workspace
from src.errors import UserError
from src.prepared import train_checksum
from src.workspace import array_path


@pytest.fixture(autouse=True)
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Prepared images of three patients a class, and their table."""
    monkeypatch.setattr(workspace, "PROJECT", tmp_path)
    rows = []
    for label in ("NORMAL", "PNEUMONIA"):
        path = array_path(label, "train")
        path.parent.mkdir(parents=True)
        np.save(path, np.arange(48, dtype=np.uint8).reshape(3, 4, 4))
        rows += [{"split": "train", "label": label, "patient": f"p{i}"} for i in range(3)]
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
