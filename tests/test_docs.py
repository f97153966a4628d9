"""Every command of the README and of docs/ is run as it stands there, or left out for a reason."""

import base64
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from benchmarks.workspace import free_port
from tests.conftest import ROOT, kaggle_files
from tests.pipeline.project import Project

# Commands, by how they begin, that are not run here.
LEFT_OUT = {
    "make test": "it would run itself",
    "make demo": "the fixture runs it",
    "make real DATA=chest_xray.zip  ": "as with EPOCHS=1, for longer",
    "make real DATA=chest_xray.zip NETWORKS=": "as with EPOCHS=1; test_sizes trains one of them",
    "dvc exp run -n at-128": "takes minutes; test_presets compares it with the preset",
    "make thesis DATA=chest_xray.zip  ": "as with EPOCHS=1, for longer",
    "make thesis DATA=chest_xray.zip EPOCHS=1": "as make real, with another file of networks",
    "python -m src.tune --workers 2": "as with one class, for both",
    "make real DATA=chest_xray.zip NAME=real-inception": "needs inception's weights",
    "make real DATA=chest_xray.zip EXPERIMENTS=1": "takes hours; test_utility_eval has a small one",
    "dvc exp run -S utility.scarcity.enabled=true": "as above",
    "python -m src.evaluate REAL GENERATED  ": "as with pixels, but needs inception's weights",
    "python -m src.evaluate REAL GENERATED --dims": "as above",
    "python -m src.evaluate REAL GENERATED --size": "as above",
    "dvc exp run -S data.source=medmnist": "downloads from Zenodo",
    "make real DATA=/data/rsna": "needs the set; test_public_sets reads stand-ins",
    "make real DATA=/data/export": "needs a hospital's files; test_own_images reads such",
    "pip install": "needs the package index",
    "python -m examples.export_extractor": "needs packages that are not part of the project",
    "optuna-dashboard": "needs a package that is not part of the project",
    "printf 'POSTGRES_PASSWORD": "for containers",
    "docker": "containers cannot run everywhere; its pieces are tested in test_tune",
    "set -a": "for containers",
    "ssh": "needs a second machine",
    "export": "for a second machine",
    "dvc remote": "for a second machine; test_remote has a folder as the remote",
    "dvc push": "as above",
    "dvc pull": "as above",
    "torchrun": "needs two machines; test_kill starts two on one",
    "dvc commit": "as above",
    "curl": "test_the_server_draws_what_is_asked_for",
}
# Commands whose effect depends on what ran before, so that each is run wherever it stands.
REPEATED = ("dvc repro", "source .venv/bin/activate")
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
GENERATED = re.compile(r"^<!-- generated: \w+ -->$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAVIGATION = re.findall(r"[:-] ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
# In the order of the navigation, the README last: it repeats what they show.
PAGES = [ROOT / "docs" / name for name in NAVIGATION if (ROOT / "docs" / name).is_file()]
PAGES += [ROOT / "README.md"]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(language: str) -> list[str]:
    return [
        text for page in PAGES for kind, text in BLOCK.findall(page.read_text()) if kind == language
    ]


def commands(block: str) -> list[str]:
    """The commands of a block, each on one line."""
    return [line for line in re.sub(r"\\\n\s*", "", block).splitlines() if line.strip()]


def without_comment(command: str) -> str:
    return command.partition("  #")[0].strip()


def wanted_commands() -> list[str]:
    """The commands to run, in the order of the pages, each once."""
    found: list[str] = []
    for command in [command for block in blocks("sh") for command in commands(block)]:
        bare = without_comment(command)
        if reason(command) is None and (bare in REPEATED or bare not in found):
            found.append(bare)
    return found


def reason(command: str) -> str | None:
    return next((why for start, why in LEFT_OUT.items() if command.startswith(start)), None)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the hosting site names them."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def test_what_is_left_out_is_in_a_page() -> None:
    everything = [command for block in blocks("sh") for command in commands(block)]
    for start in LEFT_OUT:
        assert any(command.startswith(start) for command in everything), start


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        name, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor and not GENERATED.search(target.read_text()):
            assert anchor in anchors(target), link


def test_every_page_is_in_the_navigation() -> None:
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert pages == {name for name in NAVIGATION if not name.startswith("project/")}


def test_the_readme_is_a_front_page() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8192


def keep_networks(params: dict[str, Any]) -> None:
    """The pages speak of the networks of params.yaml, so those stay as they are."""
    committed = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    params["preprocess"]["image_size"] = committed["preprocess"]["image_size"]
    # Enough patients for a search, and a classifier that can tell the classes apart.
    params["data"]["phantom"].update(train_per_class=100, images_per_patient=1)
    params["fid"]["classifier"] = committed["fid"]["classifier"] | {"batch_size": 8}
    params["tune"]["max_images"] = 30
    for name in ("normal", "pneumonia"):
        chosen = committed["train"][name]
        chosen.update(epochs=1, batch_size=16, samples={"epochs": [1], "rows": 2, "columns": 3})
        params["train"][name] = chosen
    params["utility"].update(real_fractions=[1.0], repeats=2)
    params["tune"]["space"] = committed["tune"]["space"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with tiny parameters after `make demo`, and a small archive in Kaggle's layout."""
    found = Project.cloned(tmp_path_factory.mktemp("docs") / "clone")
    found.change(keep_networks)
    (found.path / ".venv").symlink_to(sys.prefix)
    with zipfile.ZipFile(found.path / "chest_xray.zip", "w") as archive:
        for name, content in kaggle_files(130).items():
            archive.writestr(name, content)
    exclude = found.path / ".git" / "info" / "exclude"
    exclude.write_text("/.venv\n/chest_xray.zip\n")
    found.run("make", *MADE, "demo")
    found.git("add", "-A")
    found.git("commit", "-qm", "demo")
    return found


# The environment is there, whatever the age of its stamps.
MADE = ("-o", ".venv/runtime", "-o", ".venv/dev")


@pytest.mark.long
def test_the_commands_work_as_written(project: Project) -> None:
    port = str(free_port())
    for command in wanted_commands():
        begin = time.monotonic()
        sets = "data/images/test/NORMAL synthetic/train/NORMAL"
        command = command.replace("REAL GENERATED", sets)
        if command.startswith("make"):
            command = command.replace("make", " ".join(["make", *MADE]), 1)
        words = f"source .venv/bin/activate\n{command}"
        output = project.run(
            "bash", "-euo", "pipefail", "-c", words, PORT=port, SET="utility.training_steps=2"
        )
        print(f"{time.monotonic() - begin:5.0f} s  {command}")
        assert "Traceback" not in output, command
    made = {path.name for path in project.path.iterdir()}
    assert {"synthetic", "from-experiment", "from-file", "from-mlflow", "dvc_plots"} <= made
    assert (project.path / "reports" / "experiments.html").is_file()
    assert (project.path / "sheet-normal.png").is_file()


@pytest.mark.long
def test_the_python_examples_work_as_written(project: Project) -> None:
    project.run("make", *MADE, "promote")
    for block in blocks("python"):
        output = project.run(sys.executable, "-c", block + "\nprint('done')")
        assert output.endswith("done\n")
    output = project.run(sys.executable, "-m", "examples.walkthrough")
    assert "frechet: " in output
    assert (project.path / "walkthrough" / "generated.png").is_file()


@pytest.mark.long
def test_the_server_draws_what_is_asked_for(project: Project, tmp_path: Path) -> None:
    project.run(
        sys.executable, "-m", "src.generate", "--model", "models:/chest-xray-gan-normal@candidate",
        "--count", "16", "--truncation", "1.5", "--out", str(tmp_path),
    )  # fmt: skip
    port = free_port()
    server = project.start("make", *MADE, "serve", "CLASS=normal", f"SERVE_PORT={port}")
    address = f"http://127.0.0.1:{port}"

    def ask(body: object) -> tuple[int, str]:
        request = urllib.request.Request(
            f"{address}/invocations",
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=2)
                break
            except OSError:
                time.sleep(1)
        rows = {"seed": [0] * 16, "index": list(range(16))}
        status, text = ask({"inputs": rows, "params": {"truncation": 1.5}})
        assert status == 200
        drawn = json.loads(text)["predictions"]
        files = sorted((tmp_path / "train" / "NORMAL").iterdir())
        assert [base64.b64decode(row["png"]) for row in drawn] == [f.read_bytes() for f in files]
        (shown,) = [c for block in blocks("sh") for c in commands(block) if c.startswith("curl")]
        told = subprocess.run(
            shown.replace("127.0.0.1:5001", f"127.0.0.1:{port}"),
            shell=True, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert len(json.loads(told.stdout)["predictions"]) == 4
        for body, why in (
            (b"nonsense", "JSON"),
            ({"inputs": {"seed": [0]}}, "index"),
            ({"inputs": {"seed": ["a"], "index": [0]}}, "invalid literal"),
            ({"inputs": {"seed": [-1], "index": [0]}}, "seed: it must be 0 or more"),
            ({"inputs": rows, "params": {"truncation": 0.001}}, "truncation: it must be"),
            ({"inputs": {"seed": [], "index": []}}, "no image is asked for"),
            ({}, "inputs"),
        ):
            status, text = ask(body)
            assert 400 <= status < 500, text
            assert why in text
            assert "Traceback" not in text
        assert ask({"inputs": {"seed": [0] * 50_000, "index": [0] * 50_000}})[0] == 413
        with ThreadPoolExecutor(50) as clients:
            one = [{"inputs": {"seed": [1], "index": [index]}} for index in range(50)]
            answers = list(clients.map(ask, one))
        assert {status for status, _ in answers} == {200}
        assert len({text for _, text in answers}) == 50
        assert ask(one[7]) == answers[7]  # it goes on, and draws the same
    finally:
        project.run("pkill", "-TERM", "-f", f"port {port}")
        server.communicate(timeout=30)


def test_the_targets_are_in_the_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    declared = re.search(r"^\.PHONY: (.*?[^\\])$", makefile, re.MULTILINE | re.DOTALL)
    assert declared is not None
    command = ["make", "--no-print-directory"]  # which else says so where make runs the tests
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = {line.split()[0] for line in shown.splitlines()}
    assert told == set(declared[1].replace("\\\n", " ").split())
    text = "".join(file.read_text() for file in DOCUMENTS)
    assert set(re.findall(r"[`\n]make ([a-z-]+)", text)) <= told
