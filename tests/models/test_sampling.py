import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from PIL import Image, PngImagePlugin

from src.config.settings import Settings
from src.models import sampling
from src.models.export import describe_generator, export_generator
from src.models.initialization import initialize
from src.models.io import LoadedGenerator, load_generator, save_generator
from src.models.networks import Generator
from src.models.sampling import (
    BATCH,
    PortableGenerator,
    draw_images,
    draw_latents,
    encode_png,
    generate,
    to_bytes,
    to_unit_range,
)
from tests.models.test_networks import ORIGIN, generator_settings


def saved(path: Path, **changes: Any) -> LoadedGenerator:
    settings = generator_settings(latent_dim=12, base_channels=8, channels=[8, 4, 4], **changes)
    network = initialize(Generator(settings, 32), "xavier", torch.Generator().manual_seed(1))
    network(torch.randn(5, settings.noise_width))
    network.fit(np.random.default_rng(2).integers(0, 256, (9, 32, 32), dtype=np.uint8))
    save_generator(path, network.eval(), ORIGIN)
    return load_generator(path, torch.device("cpu"))


def test_an_images_noise_does_not_depend_on_what_else_is_drawn() -> None:
    many = draw_latents([3] * 40, range(40), 12)
    assert np.array_equal(many[17:18], draw_latents([3], [17], 12))
    mixed = draw_latents([4, 3], [17, 17], 12)
    assert np.array_equal(many[17], mixed[1])
    assert not np.array_equal(mixed[0], mixed[1])
    assert many.dtype == np.float32


def test_the_noise_is_that_of_a_stream_named_by_seed_and_index() -> None:
    """As the docs promise; a change of it would change every image of every model."""
    expected = np.random.default_rng([3, 17]).standard_normal(12, dtype=np.float32)
    assert np.array_equal(draw_latents([3], [17], 12)[0], expected)
    rng = np.random.default_rng([3, 17])
    kept = rng.standard_normal(12, dtype=np.float32)
    while (far := np.abs(kept) > 0.5).any():
        kept[far] = rng.standard_normal(int(far.sum()), dtype=np.float32)
    assert np.array_equal(draw_latents([3], [17], 12, 0.5)[0], kept)


def test_there_is_an_index_for_every_seed() -> None:
    with pytest.raises(ValueError, match="zip"):
        draw_latents([1, 2, 3], [0, 1], 4)


@pytest.mark.parametrize("truncation", [0.0, 0.1, 0.7])
def test_noise_is_normal_or_truncated_normal(truncation: float) -> None:
    values = draw_latents([1] * 200, range(200), 50, truncation).ravel()
    wanted = scipy.stats.truncnorm(-truncation, truncation) if truncation else scipy.stats.norm()
    assert scipy.stats.kstest(values, wanted.cdf).pvalue > 0.01
    assert not truncation or np.abs(values).max() <= truncation


@pytest.mark.parametrize(
    ("seed", "index", "truncation", "name"),
    [
        (-1, 0, 0.0, "seed"),
        (0, -1, 0.0, "index"),
        (0, 2**63, 0.0, "index"),
        (0, 0, 0.01, "truncation"),
        (0, 0, -1.0, "truncation"),
        (0, 0, float("nan"), "truncation"),
        (0, 0, float("inf"), "truncation"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(
    seed: int, index: int, truncation: float, name: str
) -> None:
    with pytest.raises(ValueError, match=f"^{name}: it must be "):
        draw_latents([seed], [index], 4, truncation)


@pytest.mark.parametrize("normalization", ["none", "batch", "spectral"])
@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
@pytest.mark.parametrize("exposure", ["learned", "drawn"])
def test_an_exported_generator_draws_the_same_bytes(
    tmp_path: Path, normalization: str, upsampling: str, exposure: str
) -> None:
    choices = {"normalization": normalization, "upsampling": upsampling, "exposure": exposure}
    found = saved(tmp_path / "g.pt", **choices)
    export_generator(found, {"LICENSE": "MIT"}, tmp_path / "out")
    count, width = BATCH + 3, found.network.settings.noise_width
    expected = draw_images(found.network, draw_latents([5] * count, range(count), width))
    loaded = PortableGenerator(tmp_path / "out")
    table = pd.DataFrame({"seed": 5, "index": range(count)})
    for rows in (table, table.iloc[[2]]):
        drawn = loaded.predict(rows)
        for index, text in zip(rows["index"], drawn["png"], strict=True):
            with Image.open(io.BytesIO(base64.b64decode(text))) as image:
                assert np.array_equal(np.asarray(image), expected[index])
                assert image.info["seed"] == "5"
                assert image.info["index"] == str(index)
                assert image.info["truncation"] == "0.0"
    truncated = loaded.predict(table.iloc[[2]], {"truncation": 0.5})["png"].iloc[0]
    with Image.open(io.BytesIO(base64.b64decode(truncated))) as image:
        latents = draw_latents([5], [2], width, 0.5)
        assert np.array_equal(np.asarray(image), draw_images(found.network, latents)[0])
        assert image.info["truncation"] == "0.5"
    assert expected.std() > 0
    assert (tmp_path / "out" / "LICENSE").read_text() == "MIT"
    assert (tmp_path / "out" / "generator.pt").read_bytes() == (tmp_path / "g.pt").read_bytes()


def test_every_file_says_that_it_is_synthetic(tmp_path: Path) -> None:
    facts = describe_generator(saved(tmp_path / "g.pt")) | {"seed": "1", "note": "é"}
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    with Image.open(io.BytesIO(encode_png(image, facts))) as read:
        assert np.array_equal(np.asarray(read), image)
        assert "no patient; not for diagnosis" in read.info["synthetic"]
        assert read.info["class"] == "NORMAL"
        assert read.info["licence"] == "MIT"
        assert read.info["note"] == "é"
        assert len(read.info["model_sha256"]) == 64
        # A text chunk of Latin letters where they do, since more programs read these.
        assert not isinstance(read.info["class"], PngImagePlugin.iTXt)
        assert isinstance(read.info["note"], PngImagePlugin.iTXt)


def test_a_request_for_nothing_is_refused(tmp_path: Path) -> None:
    found = saved(tmp_path / "g.pt")
    export_generator(found, {}, tmp_path / "out")
    with pytest.raises(ValueError, match=r"^no image is asked for: give rows of seed and index$"):
        PortableGenerator(tmp_path / "out").predict(pd.DataFrame({"seed": [], "index": []}))


def test_what_is_handed_on_works_without_the_project(tmp_path: Path) -> None:
    found = saved(tmp_path / "g.pt")
    export_generator(found, {}, tmp_path / "out")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sampling.py").write_bytes(Path(sampling.__file__).read_bytes())
    code = """
import json, pandas, sampling
drawn = sampling._load_pyfunc("../out").predict(pandas.DataFrame({"seed": [5], "index": [2]}))
print(json.dumps(drawn["png"].tolist()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, capture_output=True, text=True, check=True
    )
    here = PortableGenerator(tmp_path / "out").predict(pd.DataFrame({"seed": [5], "index": [2]}))
    assert json.loads(done.stdout) == here["png"].tolist()


def test_bytes_and_unit_range_are_inverse() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    unit = to_unit_range(every)
    assert unit.shape == (1, 1, 16, 16)
    assert (float(unit.min()), float(unit.max())) == (-1.0, 1.0)
    assert torch.equal(to_bytes(unit), every)


def test_values_are_rounded_and_those_beyond_the_range_cut() -> None:
    values = torch.tensor([-3.0, -1.004, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 1.004, 3.0])
    assert to_bytes(values.reshape(6, 1, 1, 1)).flatten().tolist() == [0, 0, 0, 1, 255, 255]


def test_an_image_does_not_depend_on_how_many_are_drawn(tiny_settings: Settings) -> None:
    random = torch.Generator().manual_seed(1)
    generator = initialize(Generator(tiny_settings.train.normal.generator, 16), "xavier", random)
    whole = generate(generator, 5, 2 * BATCH + 3)
    assert whole.shape == (2 * BATCH + 3, 16, 16)
    np.testing.assert_array_equal(whole[:7], generate(generator, 5, 7))
    np.testing.assert_array_equal(whole[7:9], generate(generator, 5, 2, start=7))
    assert generator.training  # as it was


def test_verdicts_and_users_get_the_same_images(tiny_settings: Settings) -> None:
    random = torch.Generator().manual_seed(1)
    generator = initialize(Generator(tiny_settings.train.normal.generator, 16), "xavier", random)
    width = tiny_settings.train.normal.generator.latent_dim
    drawn = draw_images(generator.eval(), draw_latents([9] * 20, range(20), width))
    np.testing.assert_array_equal(generate(generator, 9, 20), drawn)
