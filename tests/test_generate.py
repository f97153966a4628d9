import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src import generate
from src.common import paths as workspace
from src.common.files import sha256_of_array
from src.config import settings as settings_module
from src.config.settings import Settings
from src.data.image_files import read_images
from src.generate import main
from src.models import image_sets
from src.models.initialization import initialize
from src.models.io import Origin, save_generator
from src.models.networks import Generator
from src.privacy import copy_filter
from src.tracking import find_generator as model_source


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: Settings) -> Path:
    """A workspace with two generators that have not learnt, and train images."""
    for module in (workspace, model_source):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
        monkeypatch.setattr(module, "HOME", tmp_path, raising=False)
    rng = np.random.default_rng(1)
    rows = []
    for number, label in enumerate(("NORMAL", "PNEUMONIA")):
        images = rng.integers(0, 256, (40, 16, 16), dtype=np.uint8)
        for split in ("train", "test"):
            path = workspace.array_path(label, split)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, images)
            named = {"split": split, "label": label, "sha256": ""}
            rows += [named | {"patient": f"{label}{i}"} for i in range(40)]
        random = torch.Generator().manual_seed(number)
        network = Generator(tiny_settings.train.normal.generator, 16)
        origin = Origin(label, "kermany", 40, sha256_of_array(images), {"batch_size": 8})
        save_generator(
            workspace.generator_path(label), initialize(network, "dcgan", random).eval(), origin
        )
    pd.DataFrame(rows).to_csv(tmp_path / "data" / "arrays" / "table.csv", index=False)
    return tmp_path


def run(*arguments: object, good: bool = True) -> None:
    assert (main([str(argument) for argument in arguments]) == 0) == good


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_images_lie_in_kaggles_layout_beside_their_table(project: Path) -> None:
    out = project / "a folder é"
    run("--class", "pneumonia", "--count", 7, "--seed", 3, "--out", out)
    table = pd.read_csv(out / "synthetic_pneumonia.csv")
    assert len(table) == 7
    for row in table.to_dict("records"):
        with Image.open(out / row["file"]) as image:
            said: dict[str, Any] = image.info
            assert image.size == (16, 16)
            assert image.mode == "L"
        assert "no patient; not for diagnosis" in said["synthetic"]
        for name in ("class", "model_sha256", "data", "licence", "seed", "index"):
            assert said[name] == str(row[name])
    assert table["index"].tolist() == list(range(7))
    assert set(table["licence"]) == {"CC BY 4.0"}
    assert set(table["data"].str.contains("Kermany")) == {True}
    described = json.loads((out / "synthetic_pneumonia.json").read_text())
    assert described["seed"] == 3
    assert described["training"] == {"batch_size": 8, "augmentation_strength": 1.0}
    assert described["learnt_from"]["images"] == 40
    # The classes of a second call go beside them.
    run("--class", "normal", "--count", 2, "--out", out)
    read = read_images(out, None)
    assert len(read.images) == 9
    assert len(set(read.patient_ids)) == 9


def test_an_image_is_the_same_file_whatever_the_count(project: Path) -> None:
    run("--class", "normal", "--count", 3, "--out", project / "few")
    run("--count", 40, "--out", project / "many")
    few, many = (files(project / out / "train" / "NORMAL") for out in ("few", "many"))
    assert few.items() <= many.items()
    assert len(set(many.values())) == 40
    run("--class", "normal", "--count", 3, "--seed", 1, "--out", project / "other")
    assert not set(files(project / "other" / "train" / "NORMAL").values()) & set(many.values())
    run("--class", "normal", "--count", 3, "--truncation", 0.5, "--out", project / "cut")
    assert not set(files(project / "cut" / "train" / "NORMAL").values()) & set(many.values())


def test_nothing_is_overwritten_unasked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = project / "out"
    run("--class", "normal", "--count", 5, "--out", out)
    before = files(out / "train" / "NORMAL")
    run("--class", "normal", "--count", 3, "--seed", 1, "--out", out, good=False)
    assert "there are images already; give another --out, or --overwrite" in capsys.readouterr().err
    assert files(out / "train" / "NORMAL") == before
    run("--class", "normal", "--count", 3, "--seed", 1, "--out", out, "--overwrite")
    assert len(files(out / "train" / "NORMAL")) == 3
    # Somebody else's images are not replaced even then.
    stranger = out / "train" / "NORMAL" / "IM-0001-0001.jpeg"
    stranger.write_bytes(b"mine")
    run("--class", "normal", "--out", out, "--overwrite", good=False)
    assert "IM-0001-0001.jpeg: it is not of this command" in capsys.readouterr().err
    assert stranger.read_bytes() == b"mine"
    # Nor is a table, even where its images are not there any more.
    table = project / "moved" / "synthetic_normal.csv"
    table.parent.mkdir()
    table.write_bytes(b"mine")
    run("--class", "normal", "--count", 2, "--out", table.parent, good=False)
    assert "synthetic_normal.csv: it is there already" in capsys.readouterr().err
    assert table.read_bytes() == b"mine"
    assert list(table.parent.iterdir()) == [table]
    sheet = project / "sheet.png"
    run("--class", "normal", "--grid", sheet)
    run("--class", "normal", "--grid", sheet, good=False)
    assert "it is there already" in capsys.readouterr().err


def test_what_fails_midway_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> bytes:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(image_sets, "encode_png", fail)
    run("--class", "normal", "--out", project / "out", good=False)
    assert [path for path in (project / "out").rglob("*") if path.is_file()] == []
    assert list((project / "out" / "train").iterdir()) == []


def test_a_folder_that_is_a_link_stays_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "elsewhere").mkdir()
    link = project / "out" / "train" / "NORMAL"
    link.parent.mkdir(parents=True)
    link.symlink_to(project / "elsewhere")
    run("--class", "normal", "--count", 2, "--out", project / "out", good=False)
    assert "NORMAL: it is a link" in capsys.readouterr().err
    assert link.is_symlink()
    assert [file for file in (project / "out").rglob("*") if file.is_file()] == []


def test_a_contact_sheet_and_a_walk(project: Path) -> None:
    run("--count", 12, "--grid", project / "sheet.png", "--interpolate", project / "walk.gif")
    for label in ("normal", "pneumonia"):
        with Image.open(project / f"sheet-{label}.png") as image:
            assert image.size == (10 * 17 - 1, 2 * 17 - 1)
            assert image.info["index"] == "0 to 11"
        with Image.open(project / f"walk-{label}.gif") as image:
            # Equal frames that follow each other are one.
            assert 100 < image.n_frames <= 12 * 16  # type: ignore[attr-defined]


def test_a_generator_comes_from_a_file_and_brings_its_class(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "handed on.pt"
    file.write_bytes(workspace.generator_path("PNEUMONIA").read_bytes())
    run("--count", 2, "--model", file, "--out", project / "out")
    assert len(files(project / "out" / "train" / "PNEUMONIA")) == 2
    run("--class", "normal", "--model", file, "--out", project / "b", good=False)
    assert "it draws PNEUMONIA, not NORMAL" in capsys.readouterr().err
    for wrong in (project / "none.pt", project):
        run("--model", wrong, "--out", project / "b", good=False)
        assert str(wrong) in capsys.readouterr().err
    assert not (project / "b").exists()


@pytest.fixture
def _params(project: Path, tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fid = tiny_settings.fid.model_copy(update={"extractor": "pixels", "dims": 64})
    changed = tiny_settings.model_copy(update={"fid": fid})
    monkeypatch.setattr(settings_module, "load_settings", lambda path: changed)


@pytest.mark.usefixtures("_params")
def test_copies_are_left_out_and_counted(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = np.load(workspace.array_path("NORMAL", "train"))
    draw = image_sets.draw_images

    def copying(network: Any, latents: Any, device: Any) -> Any:
        drawn = draw(network, latents, device)
        if len(drawn) == 20:  # the first ones
            drawn[5:9] = real[:4]
        return drawn

    monkeypatch.setattr(image_sets, "draw_images", copying)
    run("--class", "normal", "--count", 20, "--reject-copies", "--out", project / "out")
    assert "4 of 24 images were left out" in capsys.readouterr().out
    table = pd.read_csv(project / "out" / "synthetic_normal.csv")
    assert len(table) == 20
    assert set(range(24)) - set(table["index"]) == {5, 6, 7, 8}
    described = json.loads((project / "out" / "synthetic_normal.json").read_text())
    assert described["left_out_as_copies"] == [5, 6, 7, 8]

    monkeypatch.setattr(
        image_sets, "draw_images", lambda _, latents, device: real[np.arange(len(latents)) % 40]
    )
    run("--class", "normal", "--reject-copies", "--out", project / "b", good=False)
    assert "as near to a train image as a copy" in capsys.readouterr().err
    assert not (project / "b" / "train" / "NORMAL").exists()
    assert not [file for file in (project / "b").rglob("*") if file.is_file()]

    # One of a few that is taken for a copy by chance is no reason to give up.
    first = [real[:1]]

    def one_copy(network: Any, latents: Any, device: Any) -> Any:
        return first.pop() if first else draw(network, latents, device)

    monkeypatch.setattr(image_sets, "draw_images", one_copy)
    run("--class", "normal", "--count", 1, "--reject-copies", "--out", project / "c")
    assert "1 of 2 images were left out" in capsys.readouterr().out


def test_a_table_that_cannot_be_written_leaves_no_images_and_no_other_table(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(image_sets, "write_json", full)
    run("--class", "normal", "--count", 2, "--out", project / "out", good=False)
    assert "No space left on device" in capsys.readouterr().err
    assert not [file for file in (project / "out").rglob("*") if file.is_file()]


def test_of_two_that_draw_into_one_folder_the_slower_one_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = image_sets.draw_images
    out = ["--class", "normal", "--count", 3, "--out", project / "out"]

    def late(network: Any, latents: Any, device: Any) -> Any:
        monkeypatch.setattr(image_sets, "draw_images", draw)
        run(*out, "--seed", 1)  # another process, as it were
        return draw(network, latents, device)

    monkeypatch.setattr(image_sets, "draw_images", late)
    run(*out, "--seed", 2, good=False)
    assert "there are images already" in capsys.readouterr().err
    names = [file.name for file in sorted((project / "out" / "train" / "NORMAL").iterdir())]
    assert names == [f"synthetic_normal_1_{index:06d}.png" for index in range(3)]
    table = pd.read_csv(project / "out" / "synthetic_normal.csv")
    assert set(table["seed"]) == {1}


@pytest.mark.parametrize("more", [["--grid", "g.png"], ["--interpolate", "w.gif"]])
def test_copies_are_only_left_out_of_folders(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A sheet or a walk would show them, and nobody would be told."""
    for out in ([], ["--out", "b"]):
        with pytest.raises(SystemExit):
            generate.main(["--class", "normal", "--reject-copies", *more, *out])
        assert "--reject-copies: it chooses among the images of --out" in capsys.readouterr().err


@pytest.mark.usefixtures("_params")
def test_copies_can_only_be_told_with_what_the_generator_learnt_from(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(workspace.array_path("PNEUMONIA", "train"), np.zeros((40, 16, 16), dtype=np.uint8))
    run("--reject-copies", "--count", 5, "--out", project / "out", good=False)
    assert "did not learn from the PNEUMONIA train images" in capsys.readouterr().err
    assert not (project / "out").exists()  # nor those of the other class


@pytest.mark.usefixtures("_params")
def test_one_judge_tells_copies_of_both_classes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained for each class by itself it would take twice as long."""
    chosen: list[object] = []
    choose = copy_filter.choose_extractor

    def noting(*arguments: Any) -> Any:
        chosen.append(arguments)
        return choose(*arguments)

    monkeypatch.setattr(copy_filter, "choose_extractor", noting)
    run("--reject-copies", "--count", 5, "--out", project / "out")
    assert len(chosen) == 1
    for label in ("normal", "pneumonia"):
        described = json.loads((project / "out" / f"synthetic_{label}.json").read_text())
        assert described["left_out_as_copies"] == []


def test_a_place_below_a_file_is_named(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    for option, place in (("--out", "file/images"), ("--grid", "file/sheet.png")):
        arguments = ["--class", "normal", "--count", "2", option, str(tmp_path / place)]
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert "file" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--out"),
        (["--out", "a", "--count", "0"], "--count"),
        (["--out", "a", "--seed", "-1"], "--seed"),
        (["--out", "a", "--truncation", "0.01"], "--truncation"),
        (["--out", "a", "--truncation", "nan"], "--truncation"),
        (["--grid", "a.jpg"], "--grid"),
        (["--interpolate", "a.mp4"], "--interpolate"),
        (["--interpolate", "a.gif", "--count", "1"], "--interpolate"),
        (["--grid", "a.png", "--interpolate", "a.png"], "files of two names"),
        (["--out", "a", "--rev", "x", "--model", "y"], "--model"),
    ],
)
def test_arguments_are_refused_by_name(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert named in capsys.readouterr().err
