"""What many tests share."""

import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.workspace import compute_settings, is_the_users
from src.common.devices import Compute, choose_compute
from src.common.logging import configure_logging
from src.common.rng import Stream, torch_stream
from src.config.data import DataSettings, PreprocessSettings
from src.config.settings import Settings, parse_settings
from src.data.classes import CLASSES, SPLITS
from src.data.patients import Patients
from src.data.preprocess import PreprocessResult, preprocess_images
from src.data.sources import collect_images
from src.metrics.protocol import RealFeatures

ROOT = Path(__file__).resolve().parents[1]
_WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1, ... of `pytest -n`
if _WORKER:  # a core for each, since threads in one another's way are slow
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_WORKER.removeprefix("gw")) % len(_cores)]})
TORTURE = bool(os.environ.get("TORTURE"))  # `make torture` tries more than CI does


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def noted_streams(
    monkeypatch: pytest.MonkeyPatch, *modules: ModuleType
) -> list[tuple[object, ...]]:
    """The keys of the torch streams that some modules will ask for, as they do."""
    keys: list[tuple[object, ...]] = []

    def noting(device: torch.device, stream: Stream, *key: int) -> torch.Generator:
        keys.append((stream, *key))
        return torch_stream(device, stream, *key)

    for module in modules:
        monkeypatch.setattr(module, "torch_stream", noting)
    return keys


def set_value(*place: str, value: Any) -> Any:
    """An edit of the parameters for ``Project.change``."""

    def edit(params: Any) -> None:
        for key in place[:-1]:
            params = params[key]
        params[place[-1]] = value

    return edit


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


@pytest.fixture(autouse=True, scope="session")
def _printed_lines() -> None:
    """Print the project's lines, as in a command."""
    configure_logging()


@pytest.fixture
def params() -> dict[str, Any]:
    """The committed params.yaml, to be changed at will."""
    tree: dict[str, Any] = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    return tree


@pytest.fixture
def tiny(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters with which everything takes seconds."""
    shrink(params)
    return params


@pytest.fixture
def tiny_settings(tiny: dict[str, Any]) -> Settings:
    return parse_settings(tiny)


@pytest.fixture
def fancy(tiny: dict[str, Any]) -> dict[str, Any]:
    """Tiny parameters with a choice of everything that draws chance or keeps a state."""
    train = tiny["train"]["normal"]
    train["generator"].update(upsampling="nearest", normalization="spectral")
    train["discriminator"].update(normalization="spectral")
    train.update(
        loss="wasserstein",
        gradient_penalty=10.0,
        discriminator_updates="together",
        augmentation=["brightness", "contrast", "translation", "cutout"],
        ema_decay=0.9,
    )
    train["optimizer"]["learning_rate_half_life"] = 30
    return tiny


@pytest.fixture
def fancy_settings(fancy: dict[str, Any]) -> Settings:
    return parse_settings(fancy)


@pytest.fixture(scope="session", autouse=True)
def _no_user_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests, and what modules share, from the user's cache, tokens, server and git."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        for name in filter(is_the_users, list(os.environ)):
            patch.delenv(name)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("KAGGLE_CONFIG_DIR", str(folder / "kaggle"))
        config = folder / "gitconfig"
        config.write_text(f'[safe]\n\tdirectory = "{ROOT}"\n')  # whoever owns the checkout
        patch.setenv("GIT_CONFIG_GLOBAL", str(config))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield


@pytest.fixture(autouse=True)
def _nothing_of_another_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its cache nor its store, which MLflow keeps in the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in filter(is_the_users, list(os.environ)):
        monkeypatch.delenv(name)


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.fixture
def compute() -> Compute:
    """The CPU in float32."""
    return Compute(torch.device("cpu"), "fp32", "channels_last", compile=False)


@pytest.fixture
def cuda() -> Compute:
    """A GPU, in the precision that suits it, where one is at hand."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    return choose_compute(compute_settings(device="cuda"))


@pytest.fixture
def archive() -> Path:
    """The real images, where they are at hand."""
    return _given("CHEST_XRAY_ARCHIVE")


@pytest.fixture
def inception_weights() -> Path:
    """Weights of the FID network, where they are at hand."""
    return _given("INCEPTION_WEIGHTS")


def _given(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    return Path(value)


def collected(settings: DataSettings, root: Path, folder: Path) -> pd.DataFrame:
    """The table of the images that a source gives."""
    return pd.DataFrame([asdict(record) for record in collect_images(settings, root, folder)])


def prepared_from(
    table: pd.DataFrame, folder: Path, settings: PreprocessSettings
) -> tuple[dict[tuple[str, str], NDArray[np.uint8]], pd.DataFrame, PreprocessResult]:
    """The arrays that a table's images give, by split and class; their table; what was found."""
    table.to_csv(folder / "images.csv", index=False)
    out = Path(tempfile.mkdtemp(dir=folder))
    prepared = preprocess_images(folder / "images.csv", folder, settings, out)
    arrays = {
        (split, label): np.load(out / label.lower() / f"{split}.npy")
        for split in SPLITS
        for label in CLASSES
    }
    return arrays, pd.read_csv(out / "table.csv"), prepared


def shrink(params: dict[str, Any]) -> None:
    """Make a parameter tree tiny, in place, with the thesis's choices."""
    params["data"]["phantom"].update(
        train_per_class=24, test_per_class=16, images_per_patient=2, image_size=48
    )
    params["preprocess"]["image_size"] = 16
    for name in ("normal", "pneumonia"):
        train = params["train"][name]
        train["generator"].update(
            latent_dim=8, base_channels=8, channels=[8, 4], kernels=[4, 4], strides=[2, 2]
        )
        train["generator"].update(upsampling="transposed", normalization="none", exposure="learned")
        train["discriminator"].update(channels=[4, 8], kernels=[3, 3], strides=[2, 2])
        train["discriminator"].update(normalization="none", dropout=0.4)
        train.update(loss="bce", discriminator_updates="apart", augmentation=[], ema_decay=0.0)
        train["optimizer"]["learning_rate_half_life"] = 0
        for network in ("generator", "discriminator"):
            train["optimizer"][network].update(learning_rate=0.001, beta1=0.5, beta2=0.999)
        train.update(batch_size=8, epochs=3)
        train["samples"].update(epochs=[1], rows=2, columns=3)
    params["fid"].update(dims=8, batch_size=16, iterations=3, sample_size=8)
    params["fid"]["scores"].update(resamples=10)
    params["fid"]["classifier"].update(channels=[4, 8], epochs=1, batch_size=8)
    params["privacy"].update(
        generated_images=12, baseline_images=24, control_images=6, shown_pairs=3
    )
    params["privacy"].update(membership_images=16)
    params["utility"].update(
        real_fractions=[0.5, 1.0],
        repeats=2,
        image_size=16,
        training_steps=2,
        batch_size=8,
        resamples=10,
        generator_images=16,
        added_shares=[0.25, 0.5],
        added_filters=["none"],
    )
    params["utility"]["scarcity"].update(fractions=[0.5])
    params["utility"]["imbalance"].update(prevalences=[0.3])
    params["tune"].update(
        trials=4, budget=24, budget_unit="images", evaluations=2, startup_trials=2
    )
    params["tune"].update(
        held_out_fraction=0.4,
        max_images=6,
        top_trials=1,
        repeat_seeds=2,
        heartbeat_timeout_seconds=2,
    )
    params["tune"]["space"] = {
        "generator.width": {"low": 0.5, "high": 2.0, "log": False},
        "generator.latent_dim": {"low": 4, "high": 16, "log": False},
        "discriminator.kernel": [3, 5],
        "loss": ["bce", "hinge"],
        "augmentation": [[], ["translation"]],
        "optimizer.generator.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    }


def png_bytes(value: int, size: int = 40, mode: str = "L") -> bytes:
    """A small picture that differs with ``value``."""
    rng = np.random.default_rng(value)
    image = Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def kaggle_files(per_place: int = 2) -> dict[str, bytes]:
    """Names and contents of a small archive in Kaggle's layout."""
    files: dict[str, bytes] = {}
    for split in ("train", "test"):
        for number in range(per_place):
            seed = 100 * (split == "test") + number
            normal = f"IM-{seed:04d}-0001.jpeg"
            sick = f"person{seed}_virus_{number}.jpeg"
            files[f"chest_xray/{split}/NORMAL/{normal}"] = png_bytes(seed)
            files[f"chest_xray/{split}/PNEUMONIA/{sick}"] = png_bytes(1000 + seed)
    return files


def all_drawn(features: NDArray[np.float32]) -> RealFeatures:
    """Features of real images, each of another patient, of which a draw may take any."""
    return RealFeatures(Patients.singletons(len(features)), np.arange(len(features)), features)
