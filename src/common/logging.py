"""The project's logger, and how commands and stages print its lines.

A program that imports the library sees nothing until it configures the logger `chest_xray_gan`.
"""

import logging
import sys
from typing import Any


class _ProjectLogger(logging.Logger):
    """A logger that `logging.disable` leaves alone.

    MLflow's and torch's lines are disabled that way for a while, at times from another thread.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802, the base class's name
        return not self.disabled and level >= self.getEffectiveLevel()


class _ConsoleHandler(logging.Handler):
    """Prints plain lines on stdout and warnings on stderr, at once.

    Errors such as that of a closed pipe are the caller's; ``report_errors`` ends the process.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, above a progress bar if one is open."""
        line, stream = self.format(record), sys.stdout
        if record.levelno >= logging.WARNING:
            line, stream = f"warning: {line}", sys.stderr
        if open_bars:
            open_bars[-1].write(line, file=stream)
        else:
            print(line, file=stream)
        stream.flush()


_base = logging.getLoggerClass()
logging.setLoggerClass(_ProjectLogger)
logger = logging.getLogger("chest_xray_gan")
logging.setLoggerClass(_base)
logger.addHandler(logging.NullHandler())

open_bars: list[Any] = []  # tqdm's bars on the terminal; kept by ``src.common.progress``
_console = _ConsoleHandler()


def configure_logging() -> None:
    """Print this process's lines, as commands and stages do; a second call changes nothing."""
    logger.addHandler(_console)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library's handler on the root logger would print lines again
