"""Every table names code that exists, and the tables import none of it."""

import subprocess
import sys

import pytest

from src.config import registry
from src.config.registry import Entry
from tests.conftest import ROOT

ENTRIES = {
    f"{table}.{name}": entry
    for table, entries in vars(registry).items()
    if table.isupper() and isinstance(entries, dict)
    for name, entry in entries.items()
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_has_words_and_names_code_that_loads(name: str) -> None:
    entry: Entry = ENTRIES[name]
    assert entry.words
    assert entry.words == entry.words.strip(" .")
    assert registry.load(entry) is not None  # or it raises


def test_names_and_words_are_read_without_heavy_libraries() -> None:
    code = "import sys, src.config.settings; print({'torch', 'pandas', 'scipy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
