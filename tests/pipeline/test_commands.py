"""Commands beside the stages: estimate, `make real`, `make audit`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from src import estimate
from tests.conftest import ROOT, kaggle_files


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder in Kaggle's layout, 20 images in each place."""
    for name, content in kaggle_files(20).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "chest_xray"


def test_the_estimate_counts_the_images_that_are_there(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["data.source=kermany", f"data.path={images}", "train.normal.epochs=7"]
    overrides += [
        "train.normal.batch_size=8",
        "train.pneumonia.batch_size=10",
        "train.pneumonia.epochs=9",
    ]
    assert estimate.main(overrides) == 0
    normal, pneumonia, memory, total = capsys.readouterr().out.splitlines()
    assert normal.startswith("NORMAL: 7 epochs of 2 batches of 8 at ")
    assert pneumonia.startswith("PNEUMONIA: 9 epochs of 2 batches of 10 at ")
    assert re.fullmatch(r"memory of a training on cpu: about \d+\.\d GiB at its peak", memory)
    assert re.fullmatch(r"in all about \d.*", total)


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        ("No known vulnerabilities found", 0, "No known vulnerabilities found"),
        ("ERROR: a: Dependency not found and could not be audited: a (1.0)", 1, "skipped: this "),
        ("Could not connect to a vulnerability feed", 1, "skipped: this package index gives no"),
        ("Found 1 known vulnerability in 1 package: it could not be audited", 1, "Found 1 known"),
        ("ERROR: requirements-lock.txt: no such file", 1, "ERROR: requirements-lock.txt"),
    ],
)
def test_an_audit_without_advisories_is_skipped_and_one_with_findings_fails(
    tmp_path: Path, answer: str, status: int, told: str
) -> None:
    """With a pip-audit that answers so."""
    (tmp_path / "pip-audit").write_text(f"#!/bin/sh\necho '{answer}' >&2\nexit {status}\n")
    (tmp_path / "pip-audit").chmod(0o755)
    command = ["make", "--no-print-directory", "-o", ".venv/dev", "audit", f"BIN={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith(told)
    assert (done.returncode == 0) == (status == 0 or told.startswith("skipped"))


RECORDS = """#!/bin/sh
[ "$1 $2" = "exp list" ] && printf 'thesis\\nreal\\nreal-2\\n' && exit
echo "$@" >> called
exit 1
"""


@pytest.mark.long
def test_make_real_takes_a_name_that_no_experiment_has(images: Path, tmp_path: Path) -> None:
    """With a dvc that only writes down how it is called."""
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name, script in {
        "python3": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
        "dvc": RECORDS,
    }.items():
        (bin_folder / name).write_text(script)
        (bin_folder / name).chmod(0o755)
    for name in ("Makefile", "params.yaml", "networks", "src", "pipeline"):
        (tmp_path / name).symlink_to(ROOT / name)
    small = "SET=train.normal.batch_size=8 train.pneumonia.batch_size=8"
    for more in ([], ["NAME=other"], ["NAME=thesis"]):
        command = ["make", "-o", ".venv/runtime", "real", f"DATA={images}", small, *more]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    calls = (tmp_path / "called").read_text().splitlines()
    assert [call.split(" -S ")[0] for call in calls] == [
        "exp run -n real-3",
        "exp run -n other",
        "exp run -n thesis-2",
    ]
    assert "-S data.source=kermany" in calls[0]


def test_the_estimate_includes_the_fid_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate.main(["fid.extractor=inception", "fid.iterations=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # 200 and 500 generated images and 4 times 100 disturbed ones of a class, 600 to learn from.
    assert lines[2].startswith("judging: some 3400 images through inception: about ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.normal.epoch=3", "train.normal.epoch=3: give an existing parameter"),
        ("train.normal.epochs=-3", "train.normal.epochs: Input should be greater than"),
        ("data.path", "data.path: give an existing parameter as section.key=value"),
        ("train.normal.batch_size=601", "batch_size: 601 is more than the 600 images"),
        ("train=[1", "this is not valid YAML"),
    ],
)
def test_the_estimate_refuses_what_the_stages_would(
    override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert estimate.main([override]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("extractor", ["inception", "module"])
def test_the_estimate_refuses_weights_that_are_not_there_or_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extractor: str
) -> None:
    weights = tmp_path / "w.pth"
    given = [f"fid.extractor={extractor}", "fid.dims=64", f"fid.weights={weights}"]
    assert estimate.main(given) == 1
    assert f"{weights}: there is no such file" in capsys.readouterr().err
    weights.write_bytes(b"x")
    assert estimate.main([*given, f"fid.weights_sha256={'a' * 64}"]) == 1
    assert f"fid.weights_sha256: {weights} has the checksum" in capsys.readouterr().err
