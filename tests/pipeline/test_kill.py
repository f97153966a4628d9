"""Real trainings that are killed, and end with the same bytes as one that was not."""

import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.workspace import free_port
from tests.conftest import TORTURE, set_value
from tests.pipeline.project import STAGES, Project, read_until, runs

pytestmark = pytest.mark.long

KILLS = 24 if TORTURE else 12
TRAINED = 0.4  # at most the share of the training that all killed processes together do
KILLS_OF_A_STAGE = 5 if TORTURE else 1
EPOCHS = 250
STAGE = ("python3", "-m", "pipeline.train", "normal")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone that is ready to train, long enough to be killed many times."""
    project = Project.cloned(tmp_path_factory.mktemp("template"))
    project.change(set_value("train", "checkpoint_interval_seconds", value=0.05))
    project.change(set_value("train", "normal", "epochs", value=EPOCHS))
    project.repro("preprocess")
    return project


@pytest.fixture(scope="module")
def whole(template: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a training leaves that nobody disturbs."""
    project = template.copied(tmp_path_factory.mktemp("undisturbed") / "clone")
    project.repro("train_normal")
    return results(project)


@pytest.fixture
def project(template: Project, tmp_path: Path) -> Iterator[Project]:
    yield (made := template.copied(tmp_path / "clone"))
    assert made.processes() == []


@pytest.fixture(scope="module")
def seconds(template: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, float]:
    """How long the training takes to its first checkpoint here, and from there to its end."""
    project = template.copied(tmp_path_factory.mktemp("timed") / "clone")
    first = project.start(*STAGE)  # the first one makes the tracking store, which takes longer
    wait_for_a_checkpoint(project)
    first.kill()
    first.communicate()
    old = checkpoints(project)
    begin = time.monotonic()
    process = project.start(*STAGE)
    wait_for_a_checkpoint(project, old)
    started = time.monotonic()
    process.communicate()
    return started - begin, time.monotonic() - started


def results(project: Project) -> dict[str, bytes]:
    """The bytes of all outputs of the training."""
    folder = project.path / "models" / "normal"
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.*")}
    return {name: files[name].read_bytes() for name in sorted(files)}


def checkpoints(project: Project) -> set[Path]:
    """Return the checkpoints of an unfinished training."""
    return set((project.path / ".checkpoints").rglob("step_*.pt"))


def wait_for_a_checkpoint(project: Project, old: Collection[Path] = ()) -> None:
    """Wait until the training has a new one; how fast it goes depends on the machine."""
    deadline = time.monotonic() + 120
    while not checkpoints(project) - set(old):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_nobody_works(project: Project) -> None:
    """What was started by a killed process is to end by itself."""
    deadline = time.monotonic() + 10
    while project.processes():
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.1)


def repro_after_a_kill(project: Project, *arguments: str) -> str:
    """As the README says: dvc does not write dvc.lock in one step, so it may have been cut."""
    try:
        return project.repro(*arguments)
    except AssertionError as refused:
        if "dvc.lock' validation failed" not in str(refused) and "corrupted" not in str(refused):
            raise
        (project.path / "dvc.lock").unlink()  # git holds none of this clone
        return project.repro(*arguments)


def open_to_the_network(processes: list[int]) -> list[str]:
    """Where processes listen beyond the loopback interface, as the system writes addresses."""
    mine = set()
    for process in processes:
        with suppress(FileNotFoundError):
            mine |= {str(file.readlink()) for file in Path(f"/proc/{process}/fd").iterdir()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in mine:
                found.append(local)
    loopback = ("0100007F:", "0000000000000000FFFF00000100007F:", f"{'0' * 24}01000000:")
    return [local for local in found if not local.startswith(loopback)]


def test_killed_at_many_random_moments_it_ends_with_the_same_bytes(
    project: Project, whole: dict[str, bytes], seconds: tuple[float, float]
) -> None:
    moments = random.Random(2021)
    to_start, to_end = seconds
    for number in range(KILLS):
        old = checkpoints(project)
        process = project.start(*STAGE)
        if number % 4 == 0:  # while it starts
            time.sleep(moments.uniform(0, to_start))
        else:
            wait_for_a_checkpoint(project, old)
            time.sleep(moments.uniform(0, TRAINED * to_end / KILLS))
        assert process.poll() is None, "there was nothing to kill"
        process.kill()
        process.communicate()
    output = project.repro("train_normal")
    assert "going on from a checkpoint" in output
    assert results(project) == whole
    ((run, status),) = runs(project.path, "train_normal")
    assert status == "FINISHED"
    with sqlite3.connect(project.path / "mlflow.db") as store:
        steps = [
            row[0]
            for row in store.execute(
                "select step from metrics where key = 'g' and run_uuid = ? order by step", (run,)
            )
        ]
    assert steps == list(range(1, EPOCHS + 1))
    pictures = list((project.path / "mlartifacts").rglob("samples+step+*.png"))
    assert len(pictures) == 2  # after the first and the last epoch


def test_a_killed_dvc_takes_its_stage_along_and_the_next_one_goes_on(
    project: Project, whole: dict[str, bytes]
) -> None:
    # The plainest shell, which does not make way for the last command by itself.
    process = project.start("dvc", "repro", "train_normal", SHELL="/bin/sh")
    wait_for_a_checkpoint(project)
    process.kill()
    process.communicate()
    wait_until_nobody_works(project)
    assert "going on from a checkpoint" in project.repro("train_normal")
    assert results(project) == whole


def test_every_stage_killed_at_random_moments_ends_with_the_same_bytes(
    finished: Project, tmp_path: Path
) -> None:
    moments = random.Random(2021)
    project = Project.cloned(tmp_path / "clone")
    seconds = 6.0  # about what a stage takes; the one before tells
    for stage in STAGES:
        for _ in range(KILLS_OF_A_STAGE):
            process = project.start("dvc", "repro", "-s", stage)
            with suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, seconds))
            process.kill()
            process.communicate()
            wait_until_nobody_works(project)
        begin = time.monotonic()
        assert "Traceback" not in repro_after_a_kill(project, "-s", stage)
        seconds = time.monotonic() - begin
    assert "Running stage" not in repro_after_a_kill(project)  # at most some from the cache
    assert "up to date" in project.repro()
    assert project.hashes() == finished.hashes()
    for stage in STAGES:
        statuses = [status for _, status in runs(project.path, stage)]
        assert "FINISHED" in statuses, stage
        assert set(statuses) <= {"FINISHED", "KILLED"}, stage


def test_a_lock_file_that_a_killed_dvc_left_cut_costs_no_stage(
    finished: Project, tmp_path: Path
) -> None:
    project = finished.copied(tmp_path / "clone")
    lock = project.path / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(b"")
    refused = project.repro(good=False)
    assert "'./dvc.lock' validation failed" in refused
    assert "Traceback" not in refused
    project.git("checkout", "-q", "dvc.lock")  # as the README says
    assert "up to date" in project.repro()
    cut, path, _ = whole.partition(b"models/normal/samples")
    lock.write_bytes(cut + path)
    output = project.repro()
    assert "Stage 'train_normal' is cached" in output
    assert "Running stage" not in output
    assert project.hashes() == finished.hashes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_and_leaves(
    project: Project, whole: dict[str, bytes], number: signal.Signals
) -> None:
    project.change(set_value("train", "checkpoint_interval_seconds", value=1e6))
    process = project.start(*STAGE)
    read_until(process, "epochs of")
    time.sleep(0.3)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 130
    assert output.splitlines()[-2].startswith("stopping: the state is kept in ")
    assert output.splitlines()[-1] == "interrupted"
    assert [status for _, status in runs(project.path, "train_normal")] == ["KILLED"]
    assert "going on from a checkpoint" in project.repro("train_normal")
    assert results(project) == whole


def test_forced_again_it_trains_from_the_start_and_with_more_epochs_it_goes_on(
    project: Project, whole: dict[str, bytes]
) -> None:
    project.change(set_value("train", "normal", "epochs", value=EPOCHS - 50))
    project.repro("train_normal")
    assert "going on" not in project.repro("-f", "train_normal")
    project.change(set_value("train", "normal", "epochs", value=EPOCHS))
    output = project.repro("train_normal")
    assert f"going on from the finished training of {EPOCHS - 50} epochs" in output
    assert results(project) == whole


def test_one_of_several_processes_that_dies_ends_all_with_its_message(project: Project) -> None:
    project.change(set_value("train", "processes", value=2))
    process = project.start(*STAGE)
    wait_for_a_checkpoint(project)
    assert not open_to_the_network(project.processes())
    last = max(project.processes())
    subprocess.run(["kill", "-KILL", str(last)], check=True)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "of 2 was ended by SIGKILL" in output
    assert "Traceback" not in output
    assert "going on from a checkpoint" in project.repro("train_normal")


def test_two_hosts_train_together_and_the_first_one_writes(
    template: Project, tmp_path: Path
) -> None:
    port = str(free_port())
    hosts = [template.copied(tmp_path / name) for name in ("first", "second")]
    started = [
        host.start(
            *("python3", "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
            *("--node-rank", str(rank), "--master-addr", "127.0.0.1", "--master-port", port),
            *("-m", "pipeline.train", "normal"),
        )
        for rank, host in enumerate(hosts)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert "in 2 processes" in outputs[0]
    first, second = hosts
    assert not (second.path / "models" / "normal").exists()
    first.run("dvc", "commit", "-f", "train_normal")
    assert "train_normal:" not in first.run("dvc", "status")
    assert [status for _, status in runs(first.path, "train_normal")] == ["FINISHED"]


def test_a_training_that_diverges_says_so_in_one_line(project: Project) -> None:
    for network in ("generator", "discriminator"):
        place = ("train", "normal", "optimizer", network, "learning_rate")
        project.change(set_value(*place, value=1e30))
    output = project.repro("train_normal", good=False)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "epoch 1: the training has diverged: the losses are not finite numbers" in line
    assert "train.on_divergence" in line
    assert "Traceback" not in output
