import importlib.util
import sys
from pathlib import Path

import pytest

from src.common import precompile


def test_what_is_compiled_is_installed() -> None:
    names = {name.partition(".")[0] for group in precompile.GROUPS for name in group}
    assert [name for name in names if importlib.util.find_spec(name) is None] == []


def test_bytecode_is_written_where_the_environment_forbids_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_module.py").write_text("import other_module\n")
    (tmp_path / "other_module.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(precompile, "GROUPS", (("no_such_module", "some_module"),))
    precompile.precompile()
    written = sorted(path.name for path in (tmp_path / "__pycache__").iterdir())
    tag = sys.implementation.cache_tag
    assert written == [f"other_module.{tag}.pyc", f"some_module.{tag}.pyc"]
