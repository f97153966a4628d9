"""Experiments on real images, with programs that only write down how they are called."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from ruamel.yaml import YAML

from src import real
from src.common.errors import UserError
from src.data.checksum import source_checksum
from src.real import main, quote_for_dvc, real_overrides
from src.report import summary
from tests.conftest import ROOT, kaggle_files, png_bytes, write_folder, write_zip

RECORDS = """#!/bin/sh
[ "$1 $2" = "exp list" ] && printf 'thesis\\nreal\\nreal-2\\n' && exit
printf '%s\\n' "$@" >> called
exit $STATUS
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The words of the last call of a dvc, which has the experiments thesis, real and real-2."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "dvc").write_text(RECORDS)
    (folder / "dvc").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STATUS", "0")
    monkeypatch.setattr(real, "_print_estimate", lambda overrides: None)
    monkeypatch.setattr(summary, "summarize", lambda: print("the verdict"))
    return tmp_path / "called"


def settings_of(call: Path) -> dict[str, str]:
    """The overrides of a call, the last of each key."""
    words = call.read_text().splitlines()
    given = [words[index + 1] for index, word in enumerate(words) if word == "-S"]
    return dict(item.split("=", 1) for item in given)


def test_an_experiment_gets_a_free_name_the_checksum_and_settings_for_real_images(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = write_zip(tmp_path / "it's an archive.zip", kaggle_files())
    assert main(["it's an archive.zip"]) == 0
    assert calls.read_text().splitlines()[:4] == ["exp", "run", "-n", "real-3"]
    found = settings_of(calls)
    assert found["data.source"] == "kermany"
    assert found["data.path"] == quote_for_dvc(str(tmp_path / "it's an archive.zip"))
    assert found["data.sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (found["train.normal.epochs"], found["train.pneumonia.epochs"]) == ("200", "70")
    assert found["train.normal.optimizer.learning_rate_half_life"] == "200000"
    assert found["preprocess.image_size"] == "64"
    taken, shown, verdict = capsys.readouterr().out.splitlines()
    assert taken.endswith(
        "is read as data.source=kermany: 8 of 8 images have the names and folders of Kermany's"
    )
    assert shown.startswith("+ dvc exp run -n real-3 -S ")
    assert verdict == "the verdict"


def test_experiments_are_turned_on_together_or_one_of_them(calls: Path, tmp_path: Path) -> None:
    archive = str(write_zip(tmp_path / "chest_xray.zip", kaggle_files()))
    keys = ["utility.scarcity.enabled", "utility.imbalance.enabled", "privacy.membership"]
    assert main([archive]) == 0
    assert not set(keys) & settings_of(calls).keys()
    assert main([archive, "--experiments"]) == 0
    assert [settings_of(calls)[key] for key in keys] == ["true"] * 3
    assert main([archive, "--experiments", "--set", f"{keys[1]}=false"]) == 0
    assert [settings_of(calls)[key] for key in keys] == ["true", "false", "true"]


def own_files(*folders: str) -> dict[str, bytes]:
    return {f"{folder}/{number}.png": png_bytes(number) for folder in folders for number in (1, 2)}


@pytest.mark.parametrize(
    ("files", "source", "why"),
    [
        (kaggle_files(), "kermany", "8 of 8 images"),
        (own_files("train/NORMAL", "test/PNEUMONIA"), "folder", "4 images, whose classes"),
        (own_files("a/Healthy", "a/Covid") | {"labels.csv": b""}, "folder", "4 images, whose"),
        # Kermany's names, but not the folders
        (
            {Path(name).name: content for name, content in kaggle_files().items()},
            "folder",
            "8 images, whose",
        ),
        (kaggle_files(1) | own_files("train/NORMAL", "b", "c"), "folder", "10 images, whose"),
        (kaggle_files(1) | own_files("train/NORMAL"), "kermany", "4 of 6 images"),
    ],
)
@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_what_was_given_is_found_out_and_said(
    files: dict[str, bytes],
    source: str,
    why: str,
    write: Callable[[Path, dict[str, bytes]], Path],
    calls: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "given", files)
    assert main(["given"]) == 0
    assert settings_of(calls)["data.source"] == source
    assert f"given is read as data.source={source}: {why}" in capsys.readouterr().out


def test_an_array_file_is_pneumoniamnist(calls: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    assert main(["x.npz"]) == 0
    assert settings_of(calls)["data.source"] == "medmnist"


def test_a_named_source_is_not_found_out(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the checksum covers the table that the settings name."""
    path = write_zip(tmp_path / "x.zip", kaggle_files())
    table = tmp_path / "t.csv"
    table.write_text("image,label\n")
    changes = ["data.source=folder", f"data.table.path={table}"]
    assert main(["x.zip", "--set", *changes]) == 0
    assert "is read as" not in capsys.readouterr().out
    found = settings_of(calls)
    assert found["data.source"] == "folder"
    assert found["data.sha256"] == source_checksum(path, table)


@pytest.mark.parametrize(
    ("content", "reason"),
    [({"a.txt": b"x"}, "holds no images of a kind that is read; give a folder"), (None, "no such")],
)
def test_what_holds_no_images_is_refused(
    content: dict[str, bytes] | None,
    reason: str,
    calls: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content:
        write_folder(tmp_path / "given", content)
    assert main(["given"]) == 1
    assert reason in capsys.readouterr().err
    assert not calls.exists()


def test_the_preset_gives_its_name_and_epochs_unless_others_are_given(
    calls: Path, tmp_path: Path
) -> None:
    write_zip(tmp_path / "x.zip", kaggle_files())
    assert main(["x.zip", "--preset", "thesis"]) == 0
    found = settings_of(calls)
    assert calls.read_text().splitlines()[3] == "thesis-2"
    assert (found["train.normal.epochs"], found["train.pneumonia.batch_size"]) == ("200", "128")
    assert found["train.normal.optimizer.learning_rate_half_life"] == "0"
    calls.unlink()
    more = ["--epochs", "7", "--epochs-normal", "9", "--name", "mine"]
    changed = ["--set", "train.normal.batch_size=8", "fid.dims=64", "-S", "fid.extractor=pixels"]
    assert main(["x.zip", "--preset", "thesis", *more, *changed]) == 0
    found = settings_of(calls)
    assert calls.read_text().splitlines()[3] == "mine"
    assert (found["train.normal.epochs"], found["train.pneumonia.epochs"]) == ("9", "7")
    assert (found["train.normal.batch_size"], found["train.pneumonia.batch_size"]) == ("8", "128")
    assert (found["fid.dims"], found["fid.extractor"]) == ("64", "pixels")


def test_a_preset_without_epochs_gets_those_of_real_images() -> None:
    assert "train.normal.epochs=200" in real_overrides("spectral", {}, [])
    assert "train.pneumonia.epochs=5" in real_overrides("spectral", {"pneumonia": 5}, [])


def test_the_preset_has_the_image_size_and_a_change_replaces_it() -> None:
    size = "preprocess.image_size=256"
    overrides = real_overrides("real-128", {}, [size])
    sizes = [each for each in overrides if each.startswith("preprocess.image_size=")]
    assert sizes == ["preprocess.image_size=128", size]


@pytest.mark.parametrize(
    "path", ["/a b/it's", '/a"b\\', "/a\\'b", "/${x}/$y", "/a,b=c {d} [e]", "/é;#", "null", "/\\"]
)
def test_dvc_takes_every_path_as_it_is(path: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("data:\n  path: ''\n")
    (one,) = get_hydra_sweeps({"params.yaml": [f"data.path={quote_for_dvc(path)}"]})
    apply_overrides(file, one["params.yaml"])
    assert YAML(typ="safe").load(file) == {"data": {"path": path}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["x.zip", "--preset", "thesys"],
            "invalid choice: 'thesys' (choose from 'real', 'real-128', 'real-256', 'spe",
        ),
        (["x.zip", "--epochs", "0"], "--epochs: it must be 1 or more, not 0"),
        (["x.zip", "--epochs-normal", "-1"], "--epochs: it must be 1 or more, not -1"),
        ([], "name the real images"),
        (["x.zip", "--checksum", "x.zip"], "name the real images"),
        (["x.zip", "--table", "t.csv"], "--table: it goes with --checksum"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err


def test_what_fails_is_told_in_one_line(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["absent.zip"]) == 1
    assert "absent.zip: there is no such file or folder\n" in capsys.readouterr().err
    write_zip(tmp_path / "x.zip", kaggle_files())
    monkeypatch.setenv("STATUS", "3")
    assert main(["x.zip"]) == 1
    shown = capsys.readouterr()
    assert shown.err == "error: dvc exp run failed; its messages above say why\n"
    assert "the verdict" not in shown.out
    (tmp_path / "bin" / "dvc").write_text("#!/bin/sh\necho 'ERROR: no git' >&2\nexit 1\n")
    assert main(["x.zip"]) == 1
    assert capsys.readouterr().err == "error: dvc exp list: no git\n"


def test_what_the_estimate_refuses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"a\.b=3: give an existing parameter"):
        real._print_estimate(["a.b=3"])


def test_an_interrupted_dvc_is_waited_for(tmp_path: Path) -> None:
    """It puts the project in order, which must not be cut short."""
    dvc = """
import pathlib, time
try:
    pathlib.Path("begun").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    pathlib.Path("done").touch()
"""
    command = [sys.executable, "-c", dvc]
    code = f"from src.real import _run_interruptible as run; run({command!r}, {{}})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not (tmp_path / "begun").exists() and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
    finally:
        process.kill()
    assert (tmp_path / "done").exists()


def test_the_checksum_of_an_archive_is_that_of_its_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.zip"
    file.write_bytes(b"content")
    assert main(["--checksum", str(file)]) == 0
    assert capsys.readouterr().out.split() == [hashlib.sha256(b"content").hexdigest()]


def test_the_checksum_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checksum", str(ROOT / "no such file")]) == 1
    assert "there is no such file or folder" in capsys.readouterr().err


def test_a_checksum_covers_a_table_beside_the_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.zip").write_bytes(b"x")
    (tmp_path / "t.csv").write_bytes(b"t")
    path, table = str(tmp_path / "x.zip"), str(tmp_path / "t.csv")
    assert main(["--checksum", path]) == main(["--checksum", path, "--table", table]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == hashlib.sha256(b"x").hexdigest()
    parts = "".join(f"{hashlib.sha256(part).hexdigest()}\n" for part in (b"x", b"t"))
    assert second == hashlib.sha256(parts.encode()).hexdigest()


def test_the_original_of_an_image_is_asked_for_by_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--original", "1"]) == 1
    assert "images of phantom keep their names" in capsys.readouterr().err
    files = {f"{split}/{label}/{split}{label}.png": png_bytes(1)
             for split in ("train", "test") for label in ("NORMAL", "PNEUMONIA")}  # fmt: skip
    path = write_folder(tmp_path / "own", files)
    text = (ROOT / "params.yaml").read_text().replace("source: phantom", "source: folder", 1)
    params = tmp_path / "params.yaml"
    params.write_text(text.replace('path: ""', f'path: "{path}"', 1))
    monkeypatch.setattr(real, "PARAMS", params)
    for number in range(4):
        assert main(["--original", str(number)]) == 0
    assert set(capsys.readouterr().out.split()) == set(files)
