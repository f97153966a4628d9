import errno
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

from src.common.errors import UserError, report_errors
from tests.conftest import ROOT

PRINTS = """
import sys
from src.common.errors import report_errors

def work():
    for number in range(int(sys.argv[1])):
        print(number, flush=len(sys.argv) > 2)
sys.stdin.readline()
sys.exit(report_errors(work))
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("x.zip: it is\nno archive"), "error: x.zip: it is no archive\n"),
        (
            OSError(28, "No space left on device", "a.npy"),
            "error: a.npy: No space left on device\n",
        ),
        (
            MemoryError("8 GiB"),
            "error: there is not enough memory; free some or give less to do (8 GiB)\n",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory:\nyou tried"),
            "error: there is not enough memory; free some or give less to do ([enforce fail] Defau",
        ),
        (OSError(5, "Input/output error", "data"), "error: data: Input/output error"),
        (OSError(36, "File name too long", "aaa"), "error: aaa: File name too long"),
        (
            BrokenProcessPool(),
            "error: a process that took part of the work was killed, perhaps for",
        ),
    ],
)
def test_what_the_user_can_mend_is_told_in_one_line(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise error

    assert report_errors(work) == 1
    said = capsys.readouterr().err
    assert said.startswith(told)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("shapes"), OSError(34, "Numerical result out of range")]
)
def test_a_defect_of_ours_is_not_hidden(error: Exception) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)):
        report_errors(work)


@pytest.mark.parametrize("arguments", [["9"], ["9", "at once"], ["99999"]])
def test_who_reads_may_go(arguments: list[str]) -> None:
    """As `head` does, before or after the last line was written."""
    command = [sys.executable, "-c", PRINTS, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, said = process.communicate(b"\n", timeout=60)
    assert said == b""
    assert process.returncode == 141


def test_a_connection_that_breaks_is_no_reader_that_went() -> None:
    def work() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        report_errors(work)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(stream: str) -> None:
    """A daemon starts its commands so; Python then has None for it."""
    code = f"""
import sys
from src.common.errors import UserError, report_errors
def work():
    print("said"); print("warned", file=sys.stderr)
    raise UserError("refused")
sys.{stream} = None
sys.exit(report_errors(work))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    said = {"stdout": "said\n", "stderr": "warned\nerror: refused\n"}
    assert {"stdout": done.stdout, "stderr": done.stderr} == said | {stream: ""}


@pytest.mark.parametrize("number", [errno.EFBIG, errno.ENODEV, errno.EREMOTEIO])
def test_a_limit_of_the_disk_is_one_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise OSError(number, os.strerror(number), "a.npy")

    assert report_errors(work) == 1
    assert capsys.readouterr().err == f"error: a.npy: {os.strerror(number)}\n"
