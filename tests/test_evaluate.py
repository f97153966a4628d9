import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.common.paths import HOME
from src.config.registry import VARIETY
from src.data.decode import decode_grey
from src.evaluate import main, parse
from src.metrics.evaluation import Report
from src.metrics.features import FeatureCache

PIXELS = ["--features", "pixels", "--dims", "16", "--draws", "12"]


def folder(path: Path, count: int, seed: int, size: int = 16, shift: int = 0) -> Path:
    path.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        image = rng.integers(shift, 200 + shift, (size, size), dtype=np.uint8)
        Image.fromarray(image).save(path / f"{number:03d}.png")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main([*map(str, arguments), *PIXELS, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_every_score_has_its_interval_and_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder(tmp_path / "a", 60, 1), folder(tmp_path / "b", 50, 2, shift=40)
    found = run(capsys, a, b)
    assert found["n"] == {"real": 60, "generated": 50}
    for metric in ("mmd", "frechet", "kid", "precision", "recall", "density", "coverage"):
        score = found[metric]
        assert score["low"] <= score["value"] <= score["high"]
        assert score["floor_n"] == 29
    assert found["frechet"]["score_at_floor_n"] > 3 * found["frechet"]["floor"]
    assert found["frechet"]["means_part"] + found["frechet"]["covariances_part"] == pytest.approx(
        found["frechet"]["value"]
    )
    assert found["warnings"] == []


def test_variety_is_of_equally_many_images_and_told_in_both_forms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder(tmp_path / "a", 60, 1), tmp_path / "b"
    folder(b, 1, 2)
    for number in range(1, 50):  # one picture, again and again
        shutil.copyfile(b / "000.png", b / f"{number:03d}.png")
    found = run(capsys, a, b)["variety"]
    assert list(found) == list(VARIETY)
    assert {(score["n"], score["range_n"]) for score in found.values()} == {(50, 24)}
    assert found["pixels"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["pixels"]["low"] < 1 < found["pixels"]["high"]
    assert found["ms_ssim"]["value"] == pytest.approx(1)
    assert main([str(a), str(b), *PIXELS]) == 0
    out = capsys.readouterr().out
    assert "variety, 50 images a side" in out
    assert "real halves of 24" in out
    assert "Fréchet distance in parts: means" in out
    (line,) = [line for line in out.splitlines() if line.startswith("sd of image means")]
    low, high = (f"{found['image_means'][key]:.4g}" for key in ("low", "high"))
    assert line.split()[4:] == ["0", "1", low, "to", high]


def test_images_without_variety_have_no_ratio_and_valid_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", np.full((6, 16, 16), 9, dtype=np.uint8))
    found = run(capsys, tmp_path / "a.npy", folder(tmp_path / "b", 6, 2))["variety"]
    assert found["pixels"]["value"] is None
    assert main([str(tmp_path / "a.npy"), str(tmp_path / "b"), *PIXELS]) == 0


def test_the_table_shows_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = folder(tmp_path / "a", 20, 1), folder(tmp_path / "b", 20, 2)
    assert main([str(a), str(b), *PIXELS]) == 0
    out = capsys.readouterr().out
    assert out.startswith("20 real and 20 generated images, 16 features of pixels\n")
    assert "Fréchet distance" in out
    assert "coverage" in out
    assert "with 20 images a score says more about the sample" in out


def test_a_set_against_itself_is_at_0_and_zip_and_array_are_the_same_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = folder(tmp_path / "a", 12, 1)
    np.save(tmp_path / "a.npy", np.stack([np.asarray(Image.open(f)) for f in sorted(a.iterdir())]))
    archive = shutil.make_archive(str(tmp_path / "a"), "zip", a)
    for other in (tmp_path / "a.npy", archive):
        found = run(capsys, a, other)
        assert found["frechet"]["value"] == pytest.approx(0, abs=1e-9)
        assert found["coverage"]["value"] == 1


def test_two_images_are_enough_and_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(capsys, folder(tmp_path / "a", 2, 1), folder(tmp_path / "b", 2, 2))
    assert found["frechet"]["value"] > 0
    assert found["frechet"]["low"] is None
    assert found["frechet"]["floor"] is None
    assert found["frechet"]["infinite"] is None
    assert "precision" not in found
    (line,) = [line for line in found["warnings"] if "patients for an interval" in line]
    assert line.startswith("MMD, Fréchet distance, KID: too few images")  # once for all


def test_statistics_are_saved_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder(tmp_path / "a", 30, 1), folder(tmp_path / "b", 30, 2)
    saved = tmp_path / "a.npz"
    whole = run(capsys, a, b, "--save-real", saved)
    again = run(capsys, saved, b)
    assert again["frechet"]["value"] == pytest.approx(whole["frechet"]["value"], rel=1e-6)
    assert again["n"] == {"real": 30, "generated": 30}
    assert "kid" not in again
    assert again["frechet"].keys() == whole["frechet"].keys()
    assert any("no interval" in line for line in again["warnings"])
    assert main([str(saved), str(b), "--features", "pixels", "--dims", "64"]) == 1
    told = capsys.readouterr().err
    assert "a.npz: its statistics are of 16 features of pixels, not of 64 features of" in told
    assert main([str(saved), str(b), *PIXELS]) == 0
    assert "infinitely many images: too few images, or none, to tell" in capsys.readouterr().out


class Corner(torch.nn.Module):
    """The grey values of some pixels, as a user's own network might give features."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, self.start, :8].float()


def test_statistics_of_another_network_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of as many features, they would be compared with a number that means nothing."""
    a, b = folder(tmp_path / "a", 12, 1), folder(tmp_path / "b", 12, 2)
    networks = [tmp_path / f"{start}.pt" for start in (0, 3)]
    for start, path in zip((0, 3), networks, strict=True):
        torch.jit.script(Corner(start)).save(str(path))
    module = ["--features", "module", "--dims", "8", "--draws", "12", "--weights"]
    saved = tmp_path / "a.npz"
    assert main([*map(str, (a, b)), *module, str(networks[0]), "--save-real", str(saved)]) == 0
    assert main([*map(str, (saved, b)), *module, str(networks[0])]) == 0
    capsys.readouterr()
    assert main([*map(str, (saved, b)), *module, str(networks[1])]) == 1
    told = capsys.readouterr().err
    assert "a.npz: its statistics are of 8 features of module, weights " in told


class Whole(torch.nn.Module):
    """A network that takes whole batches alone, as an exported one may."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.reshape(50, -1)[:, :8].float()


def test_a_network_of_ones_own_is_given_whole_batches(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 12, 1), folder(tmp_path / "b", 9, 2)
    torch.jit.script(Whole()).save(str(tmp_path / "m.pt"))
    module = ["--features", "module", "--dims", "8", "--weights", str(tmp_path / "m.pt")]
    assert main([str(a), str(b), *module, "--draws", "12"]) == 0


def test_columns_stand_apart_however_long_their_numbers_are() -> None:
    score = dict.fromkeys(("low", "high", "score_at_floor_n", "floor"), -0.00012345)
    report = Report("some", {"real": 9, "generated": 9})
    report.scores["kid"] = score | {"value": -0.00012345, "floor_n": 1234}
    row = report.as_table().splitlines()[2]
    assert row.split() == [
        *("KID", "-0.0001234", "-0.0001234", "to", "-0.0001234"),
        *("1234", "-0.0001234", "-0.0001234"),
    ]


def test_a_few_images_of_a_size_need_no_whole_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: list[int] = []
    plain = FeatureCache.features

    def noting(self: Any, extractor: Any, images: Any, batch: int, *more: Any) -> Any:
        sizes.append(batch)
        return plain(self, extractor, images, batch, *more)

    monkeypatch.setattr(FeatureCache, "features", noting)
    a, b = folder(tmp_path / "a", 40, 1), folder(tmp_path / "b", 3, 1, size=17)
    assert "pixels high" not in " ".join(run(capsys, a, b, "--batch", 32)["warnings"])
    assert sizes == [32, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "pixels", "--weights", "w.pt"], "--weights: pixels have none"),
        (["--features", "module", "--weights", "w.pt"], "--dims: say how many features the module"),
        (["--save-real", "stats"], "--save-real: the file's name must end in .npz"),
    ],
)
def test_options_that_cannot_work_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["a", "b", *arguments])
    assert message in capsys.readouterr().err


def test_pixels_have_a_number_of_features_of_their_own() -> None:
    assert parse(["a", "b", "--features", "pixels"]).dims == 64
    assert parse(["a", "b"]).dims == 2048


def test_images_of_mixed_sizes_are_judged_each_at_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder(tmp_path / "a", 8, 1), folder(tmp_path / "b", 8, 1)
    large = Image.open(a / "003.png").resize((32, 32), Image.Resampling.NEAREST)
    large.save(b / "003.png")
    assert run(capsys, a, b)["frechet"]["value"] == pytest.approx(0, abs=1e-9)


def test_real_images_are_equalized_as_the_training_did_and_generated_ones_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equalized originals, drawn as a perfect generator would, are then at no distance."""
    originals = folder(tmp_path / "a", 12, 1, size=32, shift=20)
    (tmp_path / "b").mkdir()
    for file in sorted(originals.iterdir()):
        drawn = decode_grey(file, 1, 16, Image.Resampling.LANCZOS, "stretch", "clahe")
        Image.fromarray(drawn).save(tmp_path / "b" / file.name)
    sizes = [originals, tmp_path / "b", "--size", 16]
    plain, equalized = (run(capsys, *sizes, "--equalize", name) for name in ("none", "clahe"))
    assert equalized["frechet"]["value"] == pytest.approx(0, abs=1e-6)
    assert plain["frechet"]["value"] > 1e-3


def test_sets_of_other_sizes_are_warned_of_and_made_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder(tmp_path / "a", 8, 1), tmp_path / "b.npy"
    small = [Image.open(file) for file in sorted(a.iterdir())]
    large = [image.resize((64, 64), Image.Resampling.NEAREST) for image in small]
    np.save(b, np.stack([np.asarray(image) for image in large]))
    assert "the images are 16 and 64 pixels high" in " ".join(run(capsys, a, b)["warnings"])
    alike = run(capsys, a, b, "--size", 16)
    assert "pixels high" not in " ".join(alike["warnings"])
    assert alike["frechet"]["value"] < 0.1 * alike["frechet"]["floor"]


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, one = folder(tmp_path / "a", 4, 1), folder(tmp_path / "one", 1, 1)
    np.savez(tmp_path / "other.npz", mu=np.zeros(3), sigma=np.eye(3))
    for arguments, message in (
        ([a, one], "one image has no distribution"),
        ([a, tmp_path / "absent"], "there is no such file or folder"),
        ([a, tmp_path / "other.npz"], "its statistics are of 3 features, not 16"),
        ([a, a, "--dims", "15"], "no square number"),
        ([a, a, "--features", "inception", "--dims", "100"], "inception has 64, 192, 768, 2048"),
        ([a, a, "--features", "module"], "needs the file of a module"),
    ):
        first, second, *rest = map(str, arguments)
        assert main([first, second, *PIXELS, *rest]) == 1
        captured = capsys.readouterr()
        (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert message in line
        assert captured.out == ""


# Runs the command with few draws, since they take the time and not the memory. Linux counts VmHWM,
# the largest memory of a process, from its start.
COMPARE = """
import sys
from pathlib import Path
from src import evaluate
from src.metrics import scores, variety
scores.FLOOR_DRAWS = variety.DRAWS = 2
assert evaluate.main(sys.argv[1:]) == 0
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_square_of_the_number_of_images(tmp_path: Path) -> None:
    """Nine matrices of all distances of 6,000 with 6,000 images would be 2.4 GiB."""
    rng = np.random.default_rng(0)
    files = [tmp_path / "real.npy", tmp_path / "generated.npy"]
    for shift, file in enumerate(files):
        images = rng.integers(100 * shift, 100 * shift + 150, (6000, 8, 8), dtype=np.uint8)
        np.save(file, images)
    arguments = [*map(str, files), *PIXELS, "--draws", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, *arguments], cwd=HOME, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report, peak_kib = done.stdout.rsplit("}", 1)
    score = json.loads(report + "}")["kid"]
    assert (score["n_real"], score["drawn_from"]) == (6000, 2000)
    assert int(peak_kib) < 1.8 * 2**20
