import io
import logging
import subprocess
import sys
from typing import Any

import pytest

from src.common.logging import configure_logging, logger, open_bars
from tests.conftest import ROOT


def test_lines_go_to_stdout_and_warnings_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()  # a second time
    logger.info("100 % of 3 images")
    logger.warning("it is late")
    shown = capsys.readouterr()
    assert shown.out == "100 % of 3 images\n"
    assert shown.err == "warning: it is late\n"


def test_they_stand_above_an_open_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, Any]] = []

    class Bar(io.StringIO):
        def write(self, line: str, file: Any = None) -> int:
            written.append((line, file))
            return 0

    monkeypatch.setattr("src.common.logging.open_bars", [Bar()])
    logger.info("line")
    logger.warning("late")
    assert written == [("line", sys.stdout), ("warning: late", sys.stderr)]
    assert not open_bars


def test_what_silences_libraries_does_not_silence_the_project(
    capsys: pytest.CaptureFixture[str],
) -> None:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        logger.warning("still here")
    finally:
        logging.disable(level)
    assert capsys.readouterr().err == "warning: still here\n"


def test_who_imports_the_library_sees_nothing_unless_they_ask_for_it() -> None:
    code = """
import logging, sys
import src.common.progress
from src.common.logging import logger
logger.warning("unseen")
logging.basicConfig(level="INFO", stream=sys.stdout)
logger.info("seen")
assert "tqdm" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("INFO:chest_xray_gan:seen\n", "")
