import math
import shlex
from pathlib import Path
from typing import get_args

import pytest

from src.common.errors import UserError
from src.common.paths import PARAMS
from src.config import presets
from src.config.presets import preset_names
from src.config.presets import preset_overrides as of
from src.config.settings import ClassName, load_settings
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of presets instead of networks/."""
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    return tmp_path


def test_the_presets_have_the_names_of_their_files() -> None:
    assert preset_names() == ["real", "real-128", "real-256", "spectral", "thesis"]


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("label", ["normal", "pneumonia"])
def test_a_preset_changes_its_class_alone(name: str, label: ClassName) -> None:
    base, changed = load_settings(PARAMS), load_settings(PARAMS, of(name, label))
    for each in get_args(ClassName):
        assert (changed.train_of(each) == base.train_of(each)) == (each != label)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_the_presets_of_real_images_differ_in_the_size_and_in_what_it_needs(size: int) -> None:
    """The training is one, the first map stays 8 x 8, and each layer below keeps its filters."""
    name = "real" if size == 64 else f"real-{size}"
    real, sized = (load_settings(PARAMS, of(each, "normal")) for each in ("real", name))
    assert sized.preprocess.image_size == size
    train, old = sized.train.normal, real.train.normal
    assert train.generator.base_size(size) == 8
    assert size == 8 * math.prod(train.discriminator.strides)
    assert train.generator.channels[:3] == old.generator.channels
    assert train.discriminator.channels[-3:] == old.discriminator.channels[-3:]
    networks = {"generator": old.generator, "discriminator": old.discriminator}
    assert train.model_copy(update=networks) == old


def test_the_thesis_is_as_it_says() -> None:
    thesis = load_settings(PARAMS, of("thesis", "normal")).train.normal
    assert (thesis.batch_size, thesis.epochs, thesis.generator.latent_dim) == (128, 200, 100)
    assert thesis.discriminator.channels == (128, 256, 256, 512)
    assert (thesis.optimizer.generator.epsilon, thesis.discriminator.dropout) == (1e-7, 0.4)


def test_values_have_no_blanks_and_few_quotes(folder: Path) -> None:
    (folder / "some.yaml").write_text(
        "image_size: 16\n"
        "augmentation: [cutout, 'true']\nloss: bce\nepochs: 3\ngenerator: {channels: [1, 2]}\n"
        "initialization: 'two words'\n"
    )
    assert of("some", "normal") == [
        "preprocess.image_size=16",
        'train.normal.augmentation=[cutout,"true"]',
        "train.normal.loss=bce",
        "train.normal.epochs=3",
        "train.normal.generator.channels=[1,2]",
        'train.normal.initialization="two words"',
    ]


def test_a_wrong_name_is_told_the_names_that_exist() -> None:
    with pytest.raises(UserError, match="thesys: there is no such preset; choose real or real-128"):
        of("thesys", "normal")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("generator: {chanels: [1]}", "generator.chanels: train.normal has no such setting"),
        ("generator: {latent: 3}", "generator.latent: it is called generator.latent_dim now"),
        ("optimizer: {generator: 3}", "optimizer.generator: train.normal has no such setting"),
        ("batch_size: {a: 3}", "batch_size: train.normal has no such setting"),
        ("- 3", "it must be a mapping"),
        ("a: [", "this is not valid YAML"),
    ],
)
def test_a_wrong_key_is_refused_by_name(folder: Path, text: str, said: str) -> None:
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        of("mine", "normal")
    assert str(error.value).startswith("networks/mine.yaml: ")
    assert said in str(error.value)


def test_a_wrong_value_is_refused_by_its_key(folder: Path) -> None:
    (folder / "mine.yaml").write_text("generator: {latent_dim: 0}\nepochs: 0.5")
    with pytest.raises(UserError, match=r"train.normal.generator.latent_dim(.|\n)*normal.epochs"):
        load_settings(PARAMS, of("mine", "normal"))


@pytest.mark.parametrize(
    ("size", "advice"),
    [
        (64, "networks/real.yaml and networks/spectral.yaml and networks/thesis.yaml fit"),
        (128, "networks/real-128.yaml fits"),
        (256, "networks/real-256.yaml fits"),
    ],
)
def test_networks_that_do_not_fit_the_size_are_told_the_preset_that_does(
    size: int, advice: str
) -> None:
    strides = ["train.normal.generator.strides=[3,2,2]", f"preprocess.image_size={size}"]
    with pytest.raises(UserError) as error:
        load_settings(PARAMS, strides)
    assert f"does not divide the image size {size} (preprocess.image_size); " in str(error.value)
    assert str(error.value).endswith(advice)


def test_a_fault_in_a_preset_hides_no_other_one(folder: Path) -> None:
    (folder / "mine.yaml").write_text("image_size: 96\nloss: [")
    (folder / "plain.yaml").write_text("loss: bce")
    with pytest.raises(UserError, match=r"the networks of networks/ are for 96 pixels$"):
        load_settings(PARAMS, ["preprocess.image_size=100"])


def test_the_command_of_the_page_on_sizes_sets_the_layers_of_the_preset() -> None:
    page = (ROOT / "docs" / "howto" / "sizes.md").read_text()
    _, _, command = page.partition("dvc exp run -n at-128 ")
    words = shlex.split(command.partition("```")[0])
    by_hand = load_settings(PARAMS, [word for word in words if "=" in word])
    for label in get_args(ClassName):
        preset = load_settings(PARAMS, of("real-128", label))
        assert by_hand.preprocess == preset.preprocess
        assert by_hand.train_of(label).generator == preset.train_of(label).generator
        assert by_hand.train_of(label).discriminator == preset.train_of(label).discriminator
