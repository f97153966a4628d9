"""What the tests of searches share."""

from pathlib import Path

import pytest

from src.tuning.storage import JournalStore


@pytest.fixture
def store(tmp_path: Path) -> JournalStore:
    """A journal of its own."""
    return JournalStore(tmp_path / "journal", 2)
