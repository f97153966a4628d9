import pickle
from pathlib import Path

import pytest
import torch

from src.training.checkpoints import Checkpoints, decode
from tests.conftest import Hostile


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path)


def value(content: bytes | None) -> object:
    return None if content is None else decode(content)["value"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_state_comes_back(checkpoints: Checkpoints, tmp_path: Path) -> None:
    assert checkpoints.load(100) is None
    state = {"value": torch.tensor([1.5, float("inf")]), "more": [{"epoch": 1}, "text", 2.5]}
    checkpoints.save(3, {"value": 3})
    checkpoints.save(4, state)
    content = Checkpoints(tmp_path).load(100)
    assert content is not None
    found = decode(content)
    assert torch.equal(found["value"], state["value"])  # type: ignore[arg-type]
    assert found["more"] == state["more"]


def test_only_two_stay(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step in (1, 2, 10, 100):
        checkpoints.save(step, {"value": step})
    assert names(tmp_path) == ["step_000000000010.pt", "step_000000000100.pt"]


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_a_damaged_one_falls_back_to_the_one_before_with_a_warning(
    checkpoints: Checkpoints, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.save(1, {"value": 1})
    checkpoints.save(2, {"value": 2})
    file = tmp_path / "step_000000000002.pt"
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-40] ^= 1
    file.write_bytes({"cut": content[:-1], "empty": b"", "flipped": content}[damage])
    assert value(checkpoints.load(100)) == 1
    shown = capsys.readouterr().err
    assert shown == f"warning: {file} is damaged; going back to the checkpoint before it\n"


def test_what_a_killed_process_was_writing_is_cleared(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    (tmp_path / ".step_000000000007.pt-new-x1y2").write_bytes(b"half")
    assert checkpoints.load(100) is None
    assert names(tmp_path) == []


def test_a_finished_training_serves_only_one_that_goes_beyond_it(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    checkpoints.save(9, {"value": 9})
    checkpoints.save(10, {"value": 10})
    assert value(checkpoints.load(10)) == 10  # all trained, not finished: results were not written
    checkpoints.finish()
    assert names(tmp_path) == ["finished_000000000010.pt"]
    assert checkpoints.load(10) is None
    assert not checkpoints.extends_finished
    assert value(checkpoints.load(11)) == 10
    assert checkpoints.extends_finished


def test_a_shorter_training_leaves_a_longer_one_its_state(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    checkpoints.save(30, {"value": 30})
    assert checkpoints.load(20) is None  # beyond its end
    for step in (18, 19, 20):
        checkpoints.save(step, {"value": step})
    assert value(checkpoints.load(20)) == 20
    checkpoints.finish()
    assert names(tmp_path) == ["finished_000000000020.pt", "step_000000000030.pt"]
    assert value(checkpoints.load(25)) == 20
    assert value(checkpoints.load(40)) == 30


def test_code_in_a_file_is_not_run(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save(1, {"value": Hostile(tmp_path / "touched")})
    content = checkpoints.load(1)
    assert content is not None
    with pytest.raises(pickle.UnpicklingError):
        decode(content)
    assert not (tmp_path / "touched").exists()


def test_the_newest_is_the_one_of_most_batches_whatever_its_kind(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    checkpoints.save(9, {"value": 9})
    checkpoints.finish()
    later = Checkpoints(tmp_path)
    later.save(5, {"value": 5})
    assert value(later.load(20)) == 9
    assert later.extends_finished
    assert value(later.load(9)) == 5  # as many batches as were finished would change nothing
    assert not later.extends_finished


def test_of_finished_trainings_the_last_stays(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step in (9, 5):
        checkpoints.save(step, {"value": step})
        checkpoints.finish()
    assert names(tmp_path) == ["finished_000000000005.pt"]
