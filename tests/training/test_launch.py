import pytest

from src.common.errors import UserError
from src.training.launch import Worker, find_worker

NAMES = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def test_the_environment_of_torchrun_counts_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number, name in enumerate(NAMES):
        monkeypatch.setenv(name, str(number))
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert find_worker() is None  # a scheduler sets the others as well
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert find_worker() == Worker(0, 1, 2)
    for name in NAMES:
        with monkeypatch.context() as part:
            part.delenv(name)
            with pytest.raises(UserError, match=f"TORCHELASTIC_RUN_ID is set .* '{name}' is not"):
                find_worker()
