import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("copy", "root", "home"),
    [
        (".dvc/tmp/exps/tmp1", ".", "."),  # `dvc exp run --temp` and `--queue`
        (".dvc/tmp/exps/tmp1/inner", ".", "."),
        (".", ".", "."),
        (".", None, "."),
        ("inner", "outer", "inner"),  # a stage of another project calls a command of this one
        ("outer/inner", "outer", "outer/inner"),
    ],
)
def test_home_is_the_project_or_the_original_of_its_copy(
    tmp_path: Path, copy: str, root: str | None, home: str
) -> None:
    folder = tmp_path / copy / "src" / "common"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "src" / "common" / "paths.py", folder)
    environment = os.environ | ({"DVC_ROOT": str(tmp_path / root)} if root else {})
    code = "import paths; print(paths.HOME)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{(tmp_path / home).resolve()}\n"
