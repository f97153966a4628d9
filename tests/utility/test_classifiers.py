"""The classifiers learn what there is to learn, repeatably, and by one recipe."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from src.common.errors import UserError
from src.common.rng import Stream
from src.config.utility import ImbalanceSettings, ScarcitySettings, UtilitySettings
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.utility import classifiers
from src.utility.classifiers import (
    EXPOSURE,
    NETWORKS,
    ROTATION,
    SCALE,
    TRANSLATION,
    LeNet,
    ResidualNetwork,
    augment,
    balanced_loss,
    predict_logits,
    train_network,
)
from tests.conftest import noted_streams

SETTINGS = UtilitySettings(
    real_fractions=(0.5, 1.0),
    repeats=2,
    image_size=16,
    training_steps=60,
    batch_size=16,
    learning_rate=0.003,
    validation_fraction=0.2,
    resamples=10,
    seed=5,
    generator_images=100,
    added_shares=(0.25, 0.5),
    added_filters=("none", "confident"),
    scarcity=ScarcitySettings(enabled=True, fractions=(0.5, 0.2), repeats=5),
    imbalance=ImbalanceSettings(enabled=True, prevalences=(0.2, 0.1), repeats=5),
)
CPU = torch.device("cpu")


def spots(count: int, seed: int, label: bool = True) -> ImageSet:
    """Noise, and in half of the images a bright spot somewhere, if labels are to mean it."""
    rng = np.random.default_rng(seed)
    images: NDArray[np.float64] = rng.normal(100, 20, (count, 16, 16))
    positive = np.arange(count) % 2 == 1
    for index in np.flatnonzero(positive):
        down, right = rng.integers(3, 10, 2)
        images[index, down : down + 3, right : right + 3] += 110
    if not label:
        positive = rng.permutation(positive)
    return ImageSet(images.clip(0, 255).astype(np.uint8), positive, Patients.singletons(count))


def accuracy(model: torch.nn.Module, images: ImageSet) -> float:
    return float(((predict_logits(model, images.images, CPU) > 0) == images.is_pneumonia).mean())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("augmented", [False, True])
def test_a_network_learns_a_spot_and_does_so_repeatably(network: str, augmented: bool) -> None:
    sources, validation = [spots(200, 0)], spots(60, 1)
    settings = SETTINGS.model_copy(update={"training_steps": 150})
    models = [
        train_network(network, sources, validation, augmented, settings, (1, 2), CPU)
        for _ in range(2)
    ]
    assert accuracy(models[0], spots(200, 2)) > 0.85
    first, again = (predict_logits(model, validation.images, CPU) for model in models)
    assert np.array_equal(first, again)


def test_the_networks_are_those_of_their_descriptions() -> None:
    """LeCun et al. (1998) with padding; a stem and three blocks, each of which halves the side."""
    lenet, residual = (NETWORKS[name](32) for name in ("LeNet-5", "residual"))
    assert isinstance(lenet, LeNet)
    assert isinstance(residual, ResidualNetwork)
    image = torch.zeros(1, 1, 32, 32)
    assert lenet.conv2(torch.zeros(1, 6, 16, 16)).shape == (1, 16, 16, 16)
    assert lenet.conv1(image).shape == (1, 6, 32, 32)
    assert [p.numel() for p in lenet.parameters()][:4] == [150, 6, 2400, 16]
    assert residual.stem(image).shape == (1, 16, 16, 16)
    assert residual.blocks(torch.zeros(1, 16, 16, 16)).shape == (1, 64, 2, 2)
    halves = ((16, 32), (32, 64), (64, 64))
    expected = [9 * 16, 16, 16]  # the stem and its norm
    for inputs, outputs in halves:
        expected += [9 * inputs * outputs, 9 * outputs**2, *[outputs] * 4]
        expected += [inputs * outputs, outputs]  # the shortcut
    assert [p.numel() for p in residual.parameters()] == [*expected, 64, 1]


def test_a_residual_block_adds_to_its_shortcut() -> None:
    block = ResidualNetwork(32).blocks[0].eval()
    x = torch.rand(2, 16, 8, 8)
    with torch.no_grad():
        inner = block.norm2(block.conv2(F.relu(block.norm1(block.conv1(x)))))
        assert torch.equal(block(x), F.relu(block.shortcut(x) + inner))
        assert not torch.equal(block(x), F.relu(block.shortcut(x)))


def test_it_takes_the_asked_steps_looks_at_most_ten_times_and_draws_by_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = noted_streams(monkeypatch, classifiers)
    done: list[str] = []
    cross_entropy = F.binary_cross_entropy_with_logits

    def step(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        assert len(y) == SETTINGS.batch_size
        done.append("step")
        return cross_entropy(logits, y)

    def look(positive: NDArray[np.bool_], logits: NDArray[np.float64]) -> float:
        done.append("look")
        return 1.0

    monkeypatch.setattr(F, "binary_cross_entropy_with_logits", step)
    monkeypatch.setattr(classifiers, "balanced_loss", look)
    settings = SETTINGS.model_copy(update={"training_steps": 25})
    train_network("LeNet-5", [spots(40, 0)], spots(40, 1), True, settings, (7, 3), CPU)
    assert done == [*["step", "step", "step", "look"] * 8, "step", "look"]
    assert {key[1:] for key in keys} == {(settings.seed, 7, 3)}
    assert all(key[0] in Stream for key in keys)
    assert len(set(keys)) == 3


def test_labels_without_meaning_teach_nothing() -> None:
    model = train_network(
        "residual", [spots(200, 0, label=False)], spots(60, 1), False, SETTINGS, (1, 0), CPU
    )
    assert 0.3 < accuracy(model, spots(400, 2)) < 0.7


def test_what_did_best_on_the_validation_images_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = []

    def recorded(positive: NDArray[np.bool_], logits: NDArray[np.float64]) -> float:
        losses.append(balanced_loss(positive, logits))
        return losses[-1]

    monkeypatch.setattr(classifiers, "balanced_loss", recorded)
    validation = spots(60, 1)
    source = spots(40, 0, label=False)  # to be learnt by heart, which helps nobody
    model = train_network("LeNet-5", [source], validation, False, SETTINGS, (3, 0), CPU)
    assert len(losses) == classifiers.VALIDATIONS
    assert min(losses) < losses[-1]
    found = balanced_loss(validation.is_pneumonia, predict_logits(model, validation.images, CPU))
    assert found == min(losses)


def test_a_training_that_diverges_names_its_parameter() -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e20})
    with pytest.raises(UserError, match=r"utility\.learning_rate: with it LeNet-5 diverges"):
        train_network("LeNet-5", [spots(40, 0)], spots(40, 1), False, settings, (3, 0), CPU)


def test_every_source_and_class_has_the_same_share_of_a_batch() -> None:
    """A source of two images weighs as much as one of many: it is learnt although it disagrees."""
    many = spots(300, 0)
    few = ImageSet(many.images[:2], ~many.is_pneumonia[:2], Patients.singletons(2))
    settings = SETTINGS.model_copy(update={"training_steps": 200})
    model = train_network("LeNet-5", [few, few, many], few, False, settings, (4, 0), CPU)
    assert accuracy(model, few) == 1


def test_the_loss_is_the_cross_entropy_with_both_classes_weighing_the_same() -> None:
    rng = np.random.default_rng(0)
    positive, logits = rng.random(50) < 0.2, rng.normal(0, 3, 50)
    weight = np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum())
    expected = log_loss(positive, 1 / (1 + np.exp(-logits)), sample_weight=weight)
    assert balanced_loss(positive, logits) == pytest.approx(expected)


def test_no_chance_leaves_an_image_as_it_is_and_chance_changes_it_a_little() -> None:
    images = torch.rand(4, 1, 32, 32) * 2 - 1
    assert torch.allclose(augment(images, torch.full((4, 6), 0.5)), images, atol=1e-5)
    brighter = augment(images, torch.tensor([[0.5] * 4 + [1.0, 0.5]] * 4))
    assert torch.allclose(brighter, images + 0.2, atol=1e-5)
    flatter = augment(images, torch.tensor([[0.5] * 5 + [0.0]] * 4))
    assert torch.allclose(flatter, images * 0.8, atol=1e-5)
    moved = augment(images, torch.tensor([[0.5, 0.5 + 0.625 / 2, 0.5, 0.5, 0.5, 0.5]] * 4))
    # A shift of 0.1 * 0.625 of the half side of 32 pixels is one pixel.
    assert torch.allclose(moved[..., :-1], images[..., 1:], atol=1e-4)


def test_an_image_is_turned_scaled_and_moved_as_the_formula_says() -> None:
    """A ramp shows from where each pixel comes; beyond the edge its last value goes on."""
    size = 33
    line = (torch.arange(size) * 2 + 1) / size - 1  # centres of pixels, as grid_sample counts
    chance = torch.tensor([[0.9, 0.7, 0.2, 0.8, 0.5, 0.5]])
    angle, right, down, scale = (2 * chance[0, :4] - 1).tolist()
    cosine = math.cos(ROTATION * angle) * (1 + SCALE * scale)
    sine = math.sin(ROTATION * angle) * (1 + SCALE * scale)
    x, y = line.view(1, -1), line.view(-1, 1)
    inner = slice(6, -6)
    for ramp, expected in (
        (x.expand(size, size), cosine * x - sine * y + TRANSLATION * right),
        (y.expand(size, size), sine * x + cosine * y + TRANSLATION * down),
    ):
        found = augment(ramp[None, None], chance)[0, 0]
        torch.testing.assert_close(found[inner, inner], expected[inner, inner], atol=1e-5, rtol=0)
    constant = torch.full((1, 1, size, size), 0.7)
    torch.testing.assert_close(augment(constant, chance), constant)
    brighter = augment(constant, torch.tensor([[0.5, 0.5, 0.5, 0.5, 1.0, 0.75]]))
    torch.testing.assert_close(brighter, constant * (1 + EXPOSURE / 2) + EXPOSURE)
