"""Errors that a user can fix, and how commands and stages print them."""

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TextIO

from .logging import configure_logging
from .secrets import guard

# The disk or its permissions fail, or a user's path goes through a file, names a folder or is too
# long. Any other OSError is a defect of the project.
DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO),
    *(errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EFBIG),
    *(errno.ENODEV, errno.ETIMEDOUT, errno.EREMOTEIO),
)


class UserError(Exception):
    """An error that the user can fix: bad input, a missing file, a parameter out of range.

    The message is one line: what is wrong, where, and what to do. Commands and stages print it on
    stderr without a traceback and exit with status 1. Any other exception is a defect.
    """


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means too little memory, of the host or of a GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # Not by type: torch, which is not imported here, has one for GPUs only.
    text = f"{type(error).__name__}: {error}"
    signs = ("OutOfMemoryError", "out of memory", "allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in text for sign in signs)
    )


def report_errors(work: Callable[[], None]) -> int:
    """Run a command's work, with logging configured, and print a user's error as one line.

    What is written to stderr from now on, also by libraries, holds no secret.

    Returns:
        the exit status: 0, 1 after an error, 130 after Ctrl-C, 141 if nobody reads stdout.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by a daemon
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115, open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack letters, as of Fréchet
            stream.reconfigure(errors="backslashreplace")
    guard(sys.stderr)
    configure_logging()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # while a command was imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        work()
        sys.stdout.flush()
    except BrokenPipeError:
        if not _has_lost_reader(sys.stdout):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed later
        return 128 + signal.SIGPIPE
    except UserError as error:
        message = " ".join(str(error).split())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenProcessPool:
        message = (
            "a process that took part of the work was killed, perhaps for want of memory; start "
            "again when more is free"
        )
    except Exception as error:
        if is_out_of_memory(error):
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            message = f"there is not enough memory; free some or give less to do ({reason})"
        elif isinstance(error, OSError) and error.errno in DISK_ERRORS:
            message = f"{error.filename or 'a file'}: {error.strerror}"
        else:
            raise
    else:
        return 0
    print(f"error: {message}", file=sys.stderr)
    return 1


def _has_lost_reader(stream: TextIO) -> bool:
    """Return whether a stream is a pipe whose reader has ended, as `head` does."""
    try:
        handle = stream.fileno()
    except (OSError, ValueError):  # not a stream of the system
        return False
    poll = select.poll()
    poll.register(handle, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
