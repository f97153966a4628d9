import shutil
import subprocess
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from src.common.errors import UserError
from src.config.settings import Settings
from src.data import download
from src.data.download import MENDELEY_NAME
from src.report import machine
from src.report.machine import Check, Finding, examine

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder under git."""
    for name in ("HOME", "PROJECT"):
        monkeypatch.setattr(machine, name, tmp_path)
    for module in (machine, download):
        monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    subprocess.run(["git", "init", "-qb", "main"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("")
    (tmp_path / ".gitignore").write_text("*\n")
    return tmp_path


def found(check: Check, settings: Settings) -> list[Finding]:
    return list(check(settings))


def one(check: Check, settings: Settings) -> Finding:
    (finding,) = check(settings)
    return finding


def with_data(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"data": settings.data.model_copy(update=changes)})


def with_fid(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"fid": settings.fid.model_copy(update=changes)})


@pytest.mark.parametrize(("name", "kinds"), [("a b%20", []), ("a?b", ["note"]), ("a#b", ["note"])])
def test_a_folder_in_whose_name_experiments_fail_is_noted(
    name: str, kinds: list[str], tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "HOME", Path("/home") / name)
    assert [finding.kind for finding in found(machine.check_folder, tiny_settings)] == kinds


def test_a_full_or_protected_disk_is_a_problem(
    tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {f.kind for f in found(machine.check_disk, tiny_settings)} == {"ok"}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9, 9, 1 << 20))
    full = found(machine.check_disk, tiny_settings)
    assert full[0].kind == "problem"
    assert "1 are needed: free some, or `dvc gc --workspace`" in full[0].text
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    assert "cannot be written" in found(machine.check_disk, tiny_settings)[0].text


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (0, "are those of the present parameters"),
        (1, "have changed since"),
        (255, "`dvc status` cannot tell now"),
    ],
)
def test_only_what_dvc_says_has_changed_is_called_so(
    home: Path,
    tiny_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    told: str,
) -> None:
    """A running command holds DVC's lock, and then it says nothing."""
    (home / "reports").mkdir()
    (home / "reports" / "index.html").touch()
    monkeypatch.setattr(
        machine.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, status)
    )
    assert told in one(machine.check_results, tiny_settings).text


def test_git_is_looked_at(
    tiny_settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(machine.check_git, tiny_settings) == Finding("ok", "git: all is committed")
    name = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", *name, "commit", "-q", "--allow-empty", "-m", "1"], cwd=home, check=True)
    subprocess.run(["git", "checkout", "-q", "--detach"], cwd=home, check=True)
    assert "no branch is checked out" in found(machine.check_git, tiny_settings)[1].text
    (home / ".gitignore").unlink()
    (home / "dvc.lock").write_text("stages: {}")
    changed, _ = machine.check_git(tiny_settings)
    assert changed.kind == "note"
    assert "dvc.lock" in changed.text
    for cut in ("", "sche", "stages:\n  fetch:\n    cmd: 'exec", "schema: '2.0'\n"):
        (home / "dvc.lock").write_text(cut)
        *_, last = machine.check_git(tiny_settings)
        assert last.kind == "problem"
        assert "`git checkout --ours dvc.lock`" in last.text
    monkeypatch.setenv("LANGUAGE", "de")  # in which git would tell the reason
    # As of a folder that a container sees under another user's name.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    strange = one(machine.check_git, tiny_settings)
    assert strange.kind == "problem"
    assert f"`git config --global --add safe.directory {home}`" in strange.text
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    shutil.rmtree(home / ".git")
    assert (
        "is not in a git repository (it is in none)" in one(machine.check_git, tiny_settings).text
    )
    monkeypatch.setenv("PATH", "")
    assert "git is not installed" in one(machine.check_git, tiny_settings).text


@pytest.fixture
def inner(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder of a repository."""
    project = home / "Bébé's" / "gan"
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc" / "config").write_text("")
    (project / "dvc.yaml").write_text("")
    (home / ".gitignore").unlink()
    monkeypatch.setattr(machine, "HOME", project)
    return project


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)


def test_a_project_in_a_folder_of_a_repository_is_well(
    tiny_settings: Settings, home: Path, inner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Unless the repository knows nothing of it.
    assert f"({home} does not hold it)" in one(machine.check_git, tiny_settings).text
    git(home, "add", "-A")
    git(home, "commit", "-qm", "1")
    assert one(machine.check_git, tiny_settings) == Finding("ok", "git: all is committed")
    # Only what is changed within counts, under its name from there.
    (home / "other.txt").touch()
    assert one(machine.check_git, tiny_settings).kind == "ok"
    (inner / "dvc.yaml").write_text("x: 1")
    (inner / "é.txt").touch()
    changed = one(machine.check_git, tiny_settings)
    assert changed.text.startswith("changed since the last commit: dvc.yaml, é.txt. ")
    # The folder that git is to trust is the repository's.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    strange = one(machine.check_git, tiny_settings)
    assert f"`git config --global --add safe.directory {home}`" in strange.text
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    git(home, "config", "--global", "--add", "safe.directory", str(home))
    assert "changed since" in found(machine.check_git, tiny_settings)[0].text


@pytest.mark.parametrize("kind", ["worktree", "submodule"])
def test_a_checkout_whose_git_folder_is_elsewhere_is_well(
    tiny_settings: Settings, home: Path, inner: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    git(home, "add", "-A")
    git(home, "commit", "-qm", "1")
    if kind == "worktree":
        git(home, "worktree", "add", "-q", "-b", "new", "tree")
        checkout = home / "tree"
    else:
        git(home, "init", "-q", "super")
        checkout = home / "super" / "part"
        allow = ["-c", "protocol.file.allow=always"]
        git(home / "super", *allow, "submodule", "--quiet", "add", str(home), "part")
    assert (checkout / ".git").is_file()
    monkeypatch.setattr(machine, "HOME", checkout / inner.relative_to(home))
    assert one(machine.check_git, tiny_settings) == Finding("ok", "git: all is committed")


@pytest.mark.parametrize(
    "name", ["dvc.lock", "dvc.yaml", ".dvc/config", "x.dvc", "reports/metrics/fid.json"]
)
def test_a_conflict_of_a_merge_is_no_cut_file(
    tiny_settings: Settings, inner: Path, home: Path, name: str
) -> None:
    file = inner / name
    file.parent.mkdir(parents=True, exist_ok=True)
    for text, branch in (("a: 0\n", "main"), ("a: 1\n", "side"), ("a: 2\n", "main")):
        if text != "a: 0\n":
            git(home, "checkout", "-q", *(["-b"] if branch == "side" else []), branch)
        file.write_text(text)
        git(home, "add", "-A")
        git(home, "commit", "-qm", text)
    with pytest.raises(subprocess.CalledProcessError):
        git(home, "merge", "-q", "side")
    changed, conflict, *_ = machine.check_git(tiny_settings)
    assert changed.text.endswith("Experiments start from them; commit")  # git would refuse more
    assert conflict.kind == "problem"
    assert conflict.text.startswith(f"merge conflict in {name}: ")
    assert not [each for each in machine.check_git(tiny_settings) if "was cut" in each.text]
    # Settled in the file, and not yet in git.
    file.write_text("stages: {}\n")
    _, settled = machine.check_git(tiny_settings)
    assert settled.kind == "note"
    assert f"unmerged: {name}. " in settled.text
    # Cut by a dvc that was killed amid the merge.
    if name == "dvc.lock":
        file.write_text("sche")
        *_, cut = machine.check_git(tiny_settings)
        subprocess.run(cut.text.split("`")[1].split(), cwd=inner, check=True)
        assert file.read_text() == "a: 2\n"


def test_the_data_and_tokens_are_looked_for(
    tiny_settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = machine.check_data
    assert "phantoms" in one(check, tiny_settings).text
    real = with_data(tiny_settings, source="kermany", path="xray.zip")
    assert one(check, real).kind == "problem"
    (home / "xray.zip").touch()
    assert one(check, real).kind == "ok"
    asked = with_data(tiny_settings, source="kermany", path="")
    assert "Mendeley's public archive will be downloaded" in one(check, asked).text
    monkeypatch.setenv("KAGGLE_USERNAME", "a")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    assert "Kaggle's archive with your token" in one(check, asked).text
    assert "secret" not in one(check, asked).text
    (home / "cache").mkdir()
    (home / "cache" / MENDELEY_NAME).touch()
    assert one(check, asked).kind == "ok"
    arrays = with_data(tiny_settings, source="medmnist", path="")
    assert "PneumoniaMNIST of 64 pixels will be downloaded" in one(check, arrays).text
    (home / "cache" / "pneumoniamnist_64.npz").touch()
    assert one(check, arrays).kind == "ok"


def test_the_weights_are_looked_for(tiny_settings: Settings, home: Path) -> None:
    check = machine.check_weights
    assert one(check, tiny_settings).kind == "ok"
    inception = with_fid(tiny_settings, extractor="inception", dims=64)
    assert "will be downloaded" in one(check, inception).text
    given = with_fid(tiny_settings, extractor="inception", dims=64, weights="w.pth")
    assert one(check, given).kind == "problem"
    (home / "w.pth").write_text("x")
    assert one(check, given).kind == "ok"
    other = with_fid(given, weights_sha256="0" * 64)
    assert "fid.weights_sha256: " in one(check, other).text


def test_another_system_is_a_problem_and_is_asked_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.delattr(machine.os, "sched_getaffinity")
    with pytest.raises(UserError, match="1 of these would stop the pipeline"):
        examine()
    assert "Darwin" in capsys.readouterr().out


def test_a_gpu_that_is_asked_for_must_be_there(
    tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    compute = tiny_settings.compute.model_copy(update={"device": "cuda"})
    asked = tiny_settings.model_copy(update={"compute": compute})
    assert "problem" in {f.kind for f in found(machine.check_cores, asked)}
    assert "problem" not in {f.kind for f in found(machine.check_cores, tiny_settings)}


def test_a_store_that_cannot_be_reached_is_a_problem(
    tiny_settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(machine.check_tracking, tiny_settings).kind == "ok"
    assert not (home / "mlflow.db").exists()  # it changes nothing
    (home / "mlflow.db").write_bytes(b"no database" * 100)
    assert one(machine.check_tracking, tiny_settings).kind == "problem"


def test_a_problem_ends_with_an_error_and_a_note_does_not(
    tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(kind: machine.Kind) -> Check:
        return lambda settings: iter([Finding(kind, "this and that")])

    monkeypatch.setattr(machine, "load_settings", lambda path: tiny_settings)
    monkeypatch.setattr(machine, "CHECKS", (check("ok"), check("note")))
    examine()
    assert capsys.readouterr().out == "ok       this and that\nnote     this and that\n"
    monkeypatch.setattr(machine, "CHECKS", (check("problem"), check("ok")))
    with pytest.raises(UserError, match="1 of these would stop"):
        examine()


def test_programs_of_some_tests_are_looked_for_where_the_tests_find_them(
    tiny_settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter([home / "15" / "bin"]))
    notes = [finding.text.partition(" ")[0] for finding in machine.check_helpers(tiny_settings)]
    assert notes == ["chromium", "initdb"]
    (home / "15" / "bin").mkdir(parents=True)
    for program in (home / "15" / "bin" / "initdb", home / "chromium"):
        program.touch(0o755)
    assert list(machine.check_helpers(tiny_settings)) == []
