"""The one error that a user is expected to read, and how an entry point tells it."""

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import TextIO

from .logging import configure_logging

# Where the disk or its rights fail, or a path of the user's goes through a file, names a folder or
# is too long; anything else of this kind is a defect of ours.
DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO),
    *(errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS),
)


class UserError(Exception):
    """Something that the user can mend: bad input, a missing file, a parameter out of range.

    The message is one line that names the thing and the way out. Entry points print it on
    stderr without a traceback and exit non-zero; any other exception is a defect of ours.
    """


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that there was not enough memory, of the host or of a GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # Torch, which is not imported here, has an error of its own for GPUs, and none for the CPU.
    told = f"{type(error).__name__}: {error}"
    signs = ("OutOfMemoryError", "out of memory", "allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in told for sign in signs)
    )


def report_errors(work: Callable[[], None]) -> int:
    """Do some work; print what the user can mend as one line, without a traceback.

    Returns:
        the exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack letters, as of Fréchet
            stream.reconfigure(errors="backslashreplace")
    configure_logging()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # while a command was imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        work()
        sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads(sys.stdout):
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


def _nobody_reads(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose reader has gone, as `head` does."""
    try:
        handle = stream.fileno()
    except (OSError, ValueError):  # none of the system's
        return False
    poll = select.poll()
    poll.register(handle, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
