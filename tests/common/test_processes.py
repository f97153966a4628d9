import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.common import processes
from src.common.errors import UserError
from tests.conftest import ROOT

# Each starts workers and tells their numbers.
STARTS = {
    "classifiers": """
from concurrent.futures import ProcessPoolExecutor
from src.utility.runs import _prepare
pool = ProcessPoolExecutor(1, get_context("spawn"), _prepare, (None,))
pool.submit(os.getpid).result()
""",
    "phantoms": """
from src.data.phantoms import PhantomSettings, draw_phantoms
settings = dict(train_per_class=500, test_per_class=1, images_per_patient=1, image_size=64, seed=1)
drawn = draw_phantoms(PhantomSettings(**settings))
next(drawn)
""",
}
SCRIPT = """
import os, signal
from multiprocessing import active_children, get_context
if __name__ == "__main__":
    {starts}
    print(*(child.pid for child in active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", STARTS)
def test_workers_end_when_the_process_that_started_them_is_killed(
    tmp_path: Path, name: str
) -> None:
    """As the system's memory guard does it; they would else wait for ever."""
    script = tmp_path / "script.py"
    starts = STARTS[name].strip().replace("\n", "\n    ")
    script.write_text(SCRIPT.format(starts=starts))
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    workers = [Path("/proc", number) for number in done.stdout.split()]
    assert workers
    deadline = time.monotonic() + 20
    while any(map(_works, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_works, workers))


def _works(process: Path) -> bool:
    """Whether a process is there and no mere entry in the system's table."""
    try:
        return ") Z " not in (process / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


# Interrupts whoever imports it, as a command does first.
TORCH = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""
# Lets Ctrl-C through, whatever the tests run under.
RUNS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execvp(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["-m", "pipeline.train", "normal"], ""),
        # These import once their arguments are understood.
        (["-m", "src.doctor"], "interrupted"),
        (["-m", "src.generate", "--out", "nowhere"], "interrupted"),
        (["-m", "src.tune"], "interrupted"),
        (["-c", "import src, torch"], "KeyboardInterrupt"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_an_interrupt_of_a_command_that_still_imports_shows_no_traceback(
    tmp_path: Path, command: list[str], told: str
) -> None:
    """But a program that imports the library keeps Python's way."""
    (tmp_path / "torch.py").write_text(TORCH)
    done = subprocess.run(
        [sys.executable, "-c", RUNS, *command],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == (130 if told == "interrupted" else -signal.SIGINT)
    assert done.stderr.strip().rpartition("\n")[2] == told


WORKS = """
import os, signal, sys, time
from src.common.errors import report_errors
def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
signal.signal(signal.SIGINT, signal.SIG_DFL)  # as while a command is imported
sys.exit(report_errors(interrupted))
"""


def test_an_interrupt_at_work_is_told_in_one_word() -> None:
    command = [sys.executable, "-c", WORKS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_missing_shared_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", refuse)
    with pytest.raises(UserError, match=r"\(Read-only file system\): give .* /dev/shm"):
        processes.process_pool(2, processes.init_worker)
