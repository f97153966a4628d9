"""Checks of this machine, one for each thing that the pipeline needs.

A check changes nothing. A fault that would stop the pipeline is a problem. A fault that only slows
it, or makes a part of it impossible, is a note.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ..common.conflicts import describe_conflicts, has_conflict
from ..common.devices import computes_in_bf16
from ..common.errors import UserError
from ..common.files import expand_user
from ..common.git import foreign_owner
from ..common.locks import try_lock
from ..common.paths import HOME, PARAMS, PROJECT, git_root
from ..common.processes import available_cores
from ..config.registry import SOURCES
from ..config.settings import Settings, load_settings
from ..data.archive import GIB
from ..data.download import INCEPTION_NAME, cache_folder
from ..data.sources import reader_of
from ..metrics.extractors import weights_checksum, weights_path
from ..tracking.address import has_server
from ..tracking.outbox import count_waiting
from ..tracking.store import check_store, count_moved

MEMORY_GIB = 3.0
Kind = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the result."""

    kind: Kind
    text: str


Check = Callable[[Settings], Iterator[Finding]]


def check_python(settings: Settings) -> Iterator[Finding]:
    """Check the operating system, and report the version of Python."""
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if platform.system() == "Linux":
        yield Finding("ok", text)
    else:
        yield Finding("problem", f"{text}: it needs Linux; a container with Linux will do")


def check_cores(settings: Settings) -> Iterator[Finding]:
    """Check the cores and the GPU."""
    cores = available_cores()
    kind: Kind = "ok" if cores > 1 else "note"
    more = "" if cores > 1 else ": the demo will take twice its seven minutes"
    yield Finding(kind, f"{cores} {'core' if cores == 1 else 'cores'} for this process{more}")
    if torch.cuda.is_available():
        yield Finding("ok", f"GPU: {torch.cuda.get_device_name()}")
    elif settings.compute.device == "cuda":
        yield Finding(
            "problem",
            "compute.device is cuda and torch finds no such GPU: set it to auto, or install a "
            "CUDA build of torch (PIP_ARGS in the README)",
        )
    else:
        yield Finding("ok", "no GPU: the CPU trains")
        if not computes_in_bf16(torch.device("cpu")):
            yield Finding("note", "this processor has no bfloat16: training takes twice as long")


def check_memory(settings: Settings) -> Iterator[Finding]:
    """Check the free memory."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    gib = free * 1024 / GIB
    if gib < MEMORY_GIB:
        yield Finding(
            "note", f"{gib:.1f} GiB of memory are free; {MEMORY_GIB:g} are on the safe side"
        )
    else:
        yield Finding("ok", f"{gib:.1f} GiB of memory are free")


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Check the free disk space for images, models and the cache."""
    for folder, need in ((HOME, SOURCES[settings.data.source].disk_gib), (cache_folder(), 0.2)):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(existing, os.W_OK):
            yield Finding("problem", f"{existing} cannot be written: change its rights")
            continue
        free = shutil.disk_usage(existing).free / GIB
        if free < need:
            yield Finding(
                "problem",
                f"{free:.1f} GiB are free under {folder}, {need:g} are needed: free some, or "
                "`dvc gc --workspace` removes what old runs left in DVC's cache",
            )
        else:
            yield Finding("ok", f"{free:.1f} GiB are free under {folder}")


def check_folder(settings: Settings) -> Iterator[Finding]:
    """Check the name of the project's folder, which DVC's git makes an address of."""
    if {"?", "#"} & set(str(HOME)):
        yield Finding(
            "note",
            f"{HOME}: with ? or # in its name `dvc exp run --temp` and `--queue` fail; rename the "
            "folder if you need them",
        )


def check_git(settings: Settings) -> Iterator[Finding]:
    """Check the git repository, which DVC's experiments need."""
    if shutil.which("git") is None:
        yield Finding("problem", "git is not installed: DVC's experiments need it")
        return
    # Find the repository, of which the project may be a folder.
    top = git_root(HOME.resolve())
    prefix = _run("git", "rev-parse", "--show-prefix")
    if hint := foreign_owner(HOME, prefix.stderr):
        yield Finding("problem", hint)
        return
    within = prefix.stdout.rstrip("\n")
    is_held = not within or _output("git", "ls-files", "--error-unmatch", "dvc.yaml") is not None
    if prefix.returncode or not is_held:
        held = f"{top} does not hold it" if top else "it is in none"
        yield Finding(
            "problem",
            f"{HOME} is not in a git repository ({held}): clone the project, or `git init` here "
            "and commit",
        )
        return
    yield from _check_changes(within)
    if _output("git", "symbolic-ref", "--quiet", "HEAD") is None:
        yield Finding(
            "note",
            "git: no branch is checked out, as a `dvc exp run` that is killed leaves it; "
            "`git switch main` goes back",
        )
    # Check DVC's files.
    if _is_cut(HOME / "dvc.lock"):
        yield Finding(
            "problem",
            "dvc.lock was cut as a dvc was killed: `git checkout --ours dvc.lock`; `dvc repro` "
            "then takes the finished stages from its cache",
        )
    if not (HOME / ".dvc" / "config").is_file():
        yield Finding("problem", ".dvc/config is missing: `git checkout .dvc`")
    elif (HOME / ".dvc" / "tmp" / "lock").exists() and _locked(HOME / ".dvc" / "tmp" / "lock"):
        yield Finding("note", "a DVC command is running here; another one waits or is refused")


def _check_changes(within: str) -> Iterator[Finding]:
    """Check the project's files against git's last commit, and for conflicts of a merge.

    Args:
        within: the project's folder in its repository, with a slash at the end; or nothing.
    """
    listed = _output("git", "status", "--porcelain", "-z", "--no-renames", "--", ".") or ""
    changed = {line[3:].removeprefix(within): line[:2] for line in listed.split("\0") if line}
    unmerged = [name for name, code in changed.items() if "U" in code or code in ("AA", "DD")]
    if changed:
        names = ", ".join(list(changed)[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        restore = (
            ""
            if unmerged
            else (", or `git checkout dvc.lock reports/metrics` where only those are")
        )
        yield Finding(
            "note",
            f"changed since the last commit: {names}{more}. Experiments start from them; commit"
            f"{restore}",
        )
    else:
        yield Finding("ok", "git: all is committed")
    metrics = [file.relative_to(HOME).as_posix() for file in HOME.glob("reports/metrics/*.json")]
    looked_at = dict.fromkeys([*sorted(metrics), "dvc.lock", "dvc.yaml", ".dvc/config", *unmerged])
    conflicts = [name for name in looked_at if has_conflict(_text(HOME / name))]
    if conflicts:
        yield Finding("problem", describe_conflicts(conflicts))
    if settled := [name for name in unmerged if name not in conflicts]:
        yield Finding(
            "note",
            f"unmerged: {', '.join(settled)}. No commit and no experiment starts before `git add` "
            "or `git rm`",
        )


def _text(file: Path) -> str:
    """Return a file's text; an empty one if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _is_cut(lock: Path) -> bool:
    """Return whether dvc.lock is incomplete, as a killed DVC leaves it."""
    text = _text(lock)
    if not lock.exists() or has_conflict(text):
        return False
    try:
        return "stages" not in (YAML(typ="safe").load(text) or {})
    except YAMLError:
        return True


def check_data(settings: Settings) -> Iterator[Finding]:
    """Check the images' source, and the token for its download."""
    data = settings.data
    chosen = SOURCES[data.source]
    if not chosen.is_real:
        yield Finding("ok", f"data: {chosen.words}")
        return
    if data.path:
        path = HOME / expand_user(data.path)
        if path.exists():
            yield Finding("ok", f"data: {path}")
        else:
            yield Finding("problem", f"data.path: there is no {path}")
        return
    reader = reader_of(data)
    if (archive := reader.downloaded(data)) is not None:
        yield Finding("ok", f"data: {archive}, from an earlier download")
        return
    try:
        download = reader.describe_download(data)
    except UserError as error:
        yield Finding("problem", str(error))
        return
    yield Finding("note", f"data: {download}; `make real DATA=FILE` takes one that you have")


def check_weights(settings: Settings) -> Iterator[Finding]:
    """Check the weights of the feature extractor."""
    fid = settings.fid
    if fid.extractor not in ("inception", "module"):
        yield Finding("ok", f"features: {fid.extractor}, which needs no weights")
        return
    given = weights_path(fid, HOME)
    path = given or cache_folder() / INCEPTION_NAME
    if given is None and not path.is_file():
        yield Finding(
            "note",
            "features: inception's weights (91 MiB) will be downloaded; fid.weights names a file "
            "that you have",
        )
        return
    try:
        weights_checksum(fid, path)
    except UserError as error:
        yield Finding("problem", str(error))
    else:
        yield Finding("ok", f"features: {fid.extractor} with {path}")


def check_tracking(settings: Settings) -> Iterator[Finding]:
    """Check MLflow's store."""
    try:
        check_store(HOME)
        moved = count_moved(HOME)
    except UserError as error:
        yield Finding("problem", str(error))
    else:
        answer = "the server answers" if has_server(HOME) else "the store is usable"
        yield Finding("ok", f"MLflow: {answer}")
        if moved:
            yield Finding(
                "note",
                f"MLflow: {moved} locations of artifacts are in a former folder of the project; "
                "the next command that uses the store corrects them, such as `make ui`",
            )
    if waiting := count_waiting(HOME):
        yield Finding("note", f"{waiting} MLflow runs wait to be delivered: `make sync`")


def check_results(settings: Settings) -> Iterator[Finding]:
    """Check whether the stages are up to date."""
    if not (PROJECT / "reports" / "index.html").is_file():
        yield Finding("note", "nothing has run here yet: `make demo`")
        return
    command = [sys.executable, "-m", "dvc", "status", "--quiet"]
    status = _run(*command).returncode
    if status == 0:
        yield Finding("ok", "the results are those of the present parameters: reports/index.html")
    elif status == 1:
        yield Finding("note", "parameters, data or code have changed since: `dvc repro`")
    else:
        yield Finding("note", "whether the results are up to date: `dvc status` cannot tell now")


def check_helpers(settings: Settings) -> Iterator[Finding]:
    """Check for programs that only some tests and pictures need."""
    for names, use in (
        (("chromium", "chromium-browser"), "tests of the pages, `make pictures`"),
        (("initdb",), "tests of searches on PostgreSQL"),
    ):
        installed = [*Path("/usr/lib/postgresql").glob("*/bin")]  # where Debian has servers
        path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, installed)])
        if not any(shutil.which(name, path=path) for name in names):
            yield Finding("note", f"{names[0]} is not installed: left out are the {use}")


CHECKS: tuple[Check, ...] = (
    check_python,
    check_cores,
    check_memory,
    check_disk,
    check_folder,
    check_git,
    check_data,
    check_weights,
    check_tracking,
    check_results,
    check_helpers,
)


def examine() -> None:
    """Run all checks and print their findings.

    Raises:
        UserError: if something would stop the pipeline.
    """
    settings = load_settings(PARAMS)
    problems = 0
    for check in CHECKS:
        for finding in check(settings):
            problems += finding.kind == "problem"
            print(f"{finding.kind:<8} {finding.text}", flush=True)
        if check is check_python and problems:
            break  # the other checks need Linux
    if problems:
        raise UserError(f"{problems} of these would stop the pipeline")


def _output(*command: str) -> str | None:
    """Run a command and return its output without the last line end; None if it fails."""
    completed = _run(*command)
    return None if completed.returncode else completed.stdout.rstrip("\n")


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in the checkout and capture its output, in English."""
    language = os.environ | {"LC_ALL": "C.UTF-8", "LANGUAGE": ""}
    return subprocess.run(
        command, cwd=HOME, capture_output=True, text=True, env=language, errors="replace"
    )


def _locked(file: Path) -> bool:
    """Return whether another process holds a lock on a file."""
    held = try_lock(file)
    if held is not None:
        held.close()
    return held is None
