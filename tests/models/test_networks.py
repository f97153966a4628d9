import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from src.common.errors import UserError
from src.config.train import DiscriminatorSettings, GeneratorSettings
from src.models.exposure import measure_exposure
from src.models.initialization import initialize
from src.models.io import Origin, load_generator, save_generator
from src.models.networks import Discriminator, Generator, count_parameters
from src.models.sampling import draw_images, draw_latents, generate
from tests.common.test_weights import SAVED
from tests.conftest import Hostile

THESIS_G: dict[str, Any] = {
    "latent_dim": 100,
    "base_channels": 256,
    "channels": [128, 128, 128],
    "kernels": [4, 4, 4],
    "strides": [2, 2, 2],
    "upsampling": "transposed",
    "output_kernel": 3,
    "normalization": "none",
    "negative_slope": 0.2,
    "exposure": "learned",
}
THESIS_D: dict[str, Any] = {
    "channels": [128, 256, 256, 512],
    "kernels": [3, 3, 3, 3],
    "strides": [1, 2, 2, 2],
    "normalization": "none",
    "negative_slope": 0.2,
    "dropout": 0.4,
}

ORIGIN = Origin(
    "NORMAL", "phantom", 24, "0" * 64, {"augmentation": ["cutout"], "augmentation_strength": 0.5}
)


def generator_settings(**changes: Any) -> GeneratorSettings:
    return GeneratorSettings.model_validate(THESIS_G | changes, strict=False)


def discriminator_settings(**changes: Any) -> DiscriminatorSettings:
    return DiscriminatorSettings.model_validate(THESIS_D | changes, strict=False)


def test_the_thesis_networks_have_its_parameter_counts() -> None:
    generator = Generator(generator_settings(), 64)
    discriminator = Discriminator(discriminator_settings(), 64)
    assert count_parameters(generator) == 2_704_897
    assert count_parameters(discriminator) == 2_099_457
    assert [count_parameters(layer) for layer in discriminator.convolutions] == [
        1_280, 295_168, 590_080, 1_180_160,
    ]  # fmt: skip
    assert count_parameters(discriminator.dense) == 32_769
    assert count_parameters(generator.dense) == 1_654_784
    assert [count_parameters(layer) for layer in generator.upsampling] == [
        524_416, 262_272, 262_272,
    ]  # fmt: skip
    assert count_parameters(generator.output) == 1_153


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
@pytest.mark.parametrize("normalization", ["none", "batch", "spectral"])
def test_lists_of_layers_make_every_size(size: int, upsampling: str, normalization: str) -> None:
    depth = size.bit_length() - 3  # from 4 pixels up and back
    generator = Generator(
        generator_settings(
            base_channels=8,
            channels=[4] * depth,
            kernels=[3] * depth,
            strides=[2] * depth,
            upsampling=upsampling,
            normalization=normalization,
        ),
        size,
    )
    discriminator = Discriminator(
        discriminator_settings(
            channels=[4] * depth,
            kernels=[4] * depth,
            strides=[2] * depth,
            normalization=normalization,
            dropout=0.0,
        ),
        size,
    )
    random = torch.Generator().manual_seed(0)
    initialize(generator, "xavier", random)
    initialize(discriminator, "xavier", random)
    assert generator.dense.out_features == 8 * 4 * 4
    images = generator(torch.randn(3, 100))
    assert images.shape == (3, 1, size, size)
    assert discriminator(images).shape == (3,)


def test_batch_normalisation_spares_the_first_and_the_last_map() -> None:
    generator = Generator(generator_settings(normalization="batch"), 64)
    discriminator = Discriminator(discriminator_settings(normalization="batch"), 64)
    for network, widths in ((generator, [256, 128, 128, 128]), (discriminator, [256, 256, 512])):
        layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert [layer.num_features for layer in layers] == widths


def test_the_thesis_maps_have_its_shapes() -> None:
    generator = Generator(generator_settings(), 64).eval()
    discriminator = Discriminator(discriminator_settings(), 64).eval()
    shapes: list[tuple[int, ...]] = []

    def note(module: torch.nn.Module, given: Any, result: torch.Tensor) -> None:
        shapes.append(tuple(result.shape[1:]))

    for layer in (*generator.upsampling, generator.output, *discriminator.convolutions):
        layer.register_forward_hook(note)
    with torch.no_grad():
        images = generator(torch.randn(2, 100))
        logits = discriminator(images)
    assert shapes == [
        (128, 16, 16), (128, 32, 32), (128, 64, 64), (1, 64, 64),
        (128, 64, 64), (256, 32, 32), (256, 16, 16), (512, 8, 8),
    ]  # fmt: skip
    assert images.shape == (2, 1, 64, 64)
    assert images.abs().max() <= 1
    assert logits.shape == (2,)


@pytest.mark.parametrize("size", [16, 32, 128])
def test_other_sizes_and_depths_are_members_of_the_family(size: int) -> None:
    small_g = generator_settings(channels=[8, 4], kernels=[4, 3], strides=[2, 2], base_channels=8)
    small_d = discriminator_settings(channels=[4, 8], kernels=[3, 5], strides=[2, 4])
    with torch.no_grad():
        images = Generator(small_g, size)(torch.randn(3, 100))
        assert images.shape == (3, 1, size, size)
        assert Discriminator(small_d, size).eval()(images).shape == (3,)


def test_lists_that_do_not_fit_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        Generator(generator_settings(), 60)
    with pytest.raises(ValueError, match="does not divide"):
        Discriminator(discriminator_settings(), 60)


def test_drawn_exposures_are_those_of_the_train_images_whatever_the_weights() -> None:
    rng = np.random.default_rng(0)
    grey = rng.normal(110, 25, (300, 1, 1)) + 30 * rng.standard_normal((300, 64, 64))
    images = np.clip(grey, 0, 255).astype(np.uint8)
    generator = Generator(generator_settings(exposure="drawn"), 64)
    initialize(generator, "xavier", torch.Generator().manual_seed(1))
    generator.fit(images)
    drawn = generate(generator, seed=1, count=300)
    for mine, real in zip(measure_exposure(drawn), measure_exposure(images), strict=True):
        assert np.mean(mine) == pytest.approx(np.mean(real), abs=0.02)
        assert np.std(mine) == pytest.approx(np.std(real), rel=0.15)


def test_the_same_stream_gives_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed)
        initialize(Discriminator(discriminator_settings(channels=[4] * 4), 64), "xavier", random)
        return initialize(Generator(generator_settings(), 64), "xavier", random).dense.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("normalization", ["none", "batch", "spectral"])
def test_a_saved_generator_draws_the_same_images(
    tmp_path: Path, cpu: torch.device, normalization: str
) -> None:
    settings = generator_settings(base_channels=8, channels=[8, 4, 4], normalization=normalization)
    network = initialize(Generator(settings, 64), "xavier", torch.Generator().manual_seed(1))
    network(torch.randn(5, 100))  # running statistics and spectral vectors move on
    network.eval()
    save_generator(tmp_path / "a.pt", network, ORIGIN)
    save_generator(tmp_path / "b.pt", network, ORIGIN)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    saved = load_generator(tmp_path / "a.pt", cpu)
    noise = torch.randn(2, 100)
    assert torch.equal(saved.network(noise), network(noise))
    assert not saved.network.training
    assert saved.origin == ORIGIN
    assert saved.sha256 == hashlib.sha256((tmp_path / "a.pt").read_bytes()).hexdigest()


@pytest.mark.parametrize("way", [*SAVED, "the whole file"])
def test_a_generator_is_found_wherever_tools_put_it(
    tmp_path: Path, cpu: torch.device, way: str
) -> None:
    network = Generator(generator_settings(base_channels=8, channels=[8, 4, 4]), 64)
    initialize(network, "xavier", torch.Generator().manual_seed(1)).eval()
    save_generator(tmp_path / "a.pt", network, ORIGIN)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    if way in SAVED:
        content["weights"] = SAVED[way](content["weights"])
    else:
        content = {"state_dict": {"model": content}, "epoch": 3}
    torch.save(content, tmp_path / "b.pt")
    noise = torch.randn(2, 100)
    assert torch.equal(load_generator(tmp_path / "b.pt", cpu).network(noise), network(noise))


@pytest.mark.parametrize(
    "kind", ["missing", "truncated", "hostile", "within", "other", "huge", "wide", "repeated"]
)
def test_what_is_no_generator_is_refused_without_running_its_code(
    tmp_path: Path, cpu: torch.device, kind: str
) -> None:
    path = tmp_path / "generator.pt"
    if kind == "truncated":
        settings = generator_settings(base_channels=8, channels=[8, 4, 4])
        network = initialize(Generator(settings, 64), "xavier", torch.Generator())
        save_generator(path, network, ORIGIN)
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "hostile":
        path.write_bytes(pickle.dumps(Hostile(tmp_path / "touched")))
    elif kind == "within":  # a file as torch writes it
        torch.save({"settings": Hostile(tmp_path / "touched"), "weights": {}}, path)
    elif kind == "huge":  # it would take terabytes
        network = Generator(generator_settings(base_channels=8, channels=[8, 4, 4]), 64)
        save_generator(path, network, ORIGIN)
        content = torch.load(path, weights_only=True)
        content["settings"].update(latent_dim=10**6, base_channels=10**5)
        torch.save(content, path)
    elif kind in ("wide", "repeated"):
        network = Generator(generator_settings(base_channels=8, channels=[8, 4, 4]), 64)
        save_generator(path, network, ORIGIN)
        content = torch.load(path, weights_only=True)
        if kind == "wide":
            content["settings"].update(output_kernel=100_001)
        else:  # one number, of which the file says that it is a million of them
            content["settings"].update(latent_dim=10**6)
            content["weights"]["more"] = torch.zeros(1).expand(10**12)
        torch.save(content, path)
    elif kind == "other":
        torch.save({"weights": {}}, path)
    with pytest.raises(UserError, match=r"generator\.pt") as raised:
        load_generator(path, cpu)
    if kind in ("huge", "wide", "repeated"):
        assert "weights and holds" in str(raised.value)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("described", "image_size", "reason"),
    [
        ({"strides": [4] * 3, "channels": [4] * 3, "kernels": [4] * 3}, 4096, "4096 pixels a side"),
        ({}, 0, "0 pixels a side"),
        ({}, -64, "-64 pixels a side"),
        ({"base_channels": 2, "channels": [1, 1, 40_000]}, 64, "a map of 163840000 values"),
    ],
)
def test_a_small_file_that_would_draw_huge_maps_is_refused(
    tmp_path: Path, cpu: torch.device, described: dict[str, Any], image_size: int, reason: str
) -> None:
    network = Generator(generator_settings(base_channels=8, channels=[8, 4, 4]), 64)
    save_generator(tmp_path / "generator.pt", network, ORIGIN)
    content = torch.load(tmp_path / "generator.pt", weights_only=True)
    content["settings"].update(described)
    content["image_size"] = image_size
    torch.save(content, tmp_path / "generator.pt")
    with pytest.raises(UserError, match=rf"generator\.pt .*{reason}"):
        load_generator(tmp_path / "generator.pt", cpu)


def test_the_discriminator_sees_images_turned_and_its_slope_counts(cpu: torch.device) -> None:
    """Turned, "same" padding has its odd pixel where Keras has it."""
    random = torch.Generator().manual_seed(1)
    images = torch.rand(2, 1, 32, 32, generator=random) * 2 - 1
    networks = {
        slope: initialize(
            Discriminator(
                discriminator_settings(channels=[4, 4, 4, 8], negative_slope=slope), 32
            ).eval(),
            "xavier",
            torch.Generator().manual_seed(2),
        )
        for slope in (0.2, 0.3)
    }
    network = networks[0.2]
    x = torch.rot90(images, 2, (2, 3))
    for layer in network.convolutions:
        x = layer(x)
        x = torch.where(x > 0, x, 0.2 * x)
    expected = network.dense(x.permute(0, 2, 3, 1).flatten(1)).squeeze(1)
    torch.testing.assert_close(network(images), expected)
    assert not torch.allclose(networks[0.3](images), expected)


def test_the_generators_slope_counts() -> None:
    noise = torch.randn(2, 100, generator=torch.Generator().manual_seed(1))
    drawn = [
        initialize(
            Generator(
                generator_settings(base_channels=8, channels=[8, 4, 4], negative_slope=slope), 64
            ),
            "xavier",
            torch.Generator().manual_seed(2),
        ).eval()(noise)
        for slope in (0.2, 0.3)
    ]
    assert not torch.allclose(drawn[0], drawn[1])


def test_a_generator_of_version_0_1_draws_the_same_images_as_then() -> None:
    loaded = load_generator(Path(__file__).with_name("generator_0.1.pt"), torch.device("cpu"))
    images = draw_images(loaded.network, draw_latents([3] * 4, range(4), 6))
    assert hashlib.sha256(images.tobytes()).hexdigest() == (
        "597a7098b679e1d512125a2ff65f9f0dac6c47e9c33df6a1e1ae1381698a7328"
    )
    assert loaded.origin.training["ema_decay"] == 0.999
    assert "average" not in loaded.origin.training
