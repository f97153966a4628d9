import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from src.common.errors import UserError
from src.config.fid import ClassifierSettings
from src.metrics import classifier
from src.metrics.classifier import TrainedClassifier, _held_out, train_classifier
from tests.conftest import noted_streams


def settings(epochs: int = 12) -> ClassifierSettings:
    return ClassifierSettings(
        channels=(8, 8), epochs=epochs, batch_size=16, learning_rate=0.005, held_out_fraction=0.25
    )


def easy_images(count: int, bright_left: bool) -> NDArray[np.uint8]:
    rng = np.random.default_rng(int(bright_left))
    images = rng.integers(0, 60, (count, 16, 16), dtype=np.uint8)
    if bright_left:
        images[:, 4:12, 4:12] += 150
    return images


def trained(cpu: torch.device, epochs: int = 12) -> TrainedClassifier:
    images = easy_images(60, False), easy_images(30, True)
    patients = [f"a{i // 2}" for i in range(60)], [f"b{i // 2}" for i in range(30)]
    return train_classifier(images, patients, settings(epochs), 6, 1, cpu)


def test_it_learns_what_can_be_learnt_and_says_how_well(cpu: torch.device) -> None:
    found = trained(cpu)
    assert found.held_out_accuracy > 0.95
    assert 15 < found.held_out_images < 30
    features = found.extractor(torch.zeros(3, 16, 16, dtype=torch.uint8))
    assert features.shape == (3, 6)


def test_the_same_seed_gives_the_same_features(cpu: torch.device) -> None:
    image = torch.randint(0, 256, (4, 16, 16), dtype=torch.uint8)
    first, again = trained(cpu, 1), trained(cpu, 1)
    with torch.no_grad():
        assert torch.equal(first.extractor(image), again.extractor(image))


def test_held_out_images_are_of_whole_patients() -> None:
    patients = [f"p{i % 10}" for i in range(50)]
    held = _held_out(patients, 0.2, (1, 2))
    outside = {name for name, inside in zip(patients, held, strict=True) if inside}
    kept = {name for name, inside in zip(patients, held, strict=True) if not inside}
    assert len(outside) == 2
    assert not outside & kept


@pytest.mark.parametrize(
    ("patients", "share", "expected"), [(2, 0.5, 1), (2, 0.01, 1), (10, 0.01, 1), (3, 0.99, 2)]
)
def test_at_least_one_patient_is_held_out_and_one_kept(
    patients: int, share: float, expected: int
) -> None:
    assert _held_out([f"p{i}" for i in range(patients)], share, (1,)).sum() == expected


def test_both_classes_weigh_the_same_and_an_epochs_loss_is_the_mean(
    cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, torch.Tensor, torch.Tensor]] = []
    cross_entropy = F.binary_cross_entropy_with_logits

    def noting(logits: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        loss = cross_entropy(logits, y, weight)
        seen.append((loss.item(), y, weight))
        return loss

    monkeypatch.setattr(F, "binary_cross_entropy_with_logits", noting)
    told: list[float] = []
    images = easy_images(60, False), easy_images(30, True)
    patients = [f"a{i}" for i in range(60)], [f"b{i}" for i in range(30)]
    shown = settings(1).model_copy(update={"batch_size": 17})  # 45 and 22 are kept: three of 17, 16
    train_classifier(images, patients, shown, 6, 1, cpu, lambda _, loss: told.append(loss))
    y, weight = (torch.cat([part[i] for part in seen]) for i in (1, 2))
    assert (len(y), int(y.sum())) == (67, 22)
    assert float(weight[y > 0].sum()) == pytest.approx(33.5)
    assert float(weight[y == 0].sum()) == pytest.approx(33.5)
    assert told == [pytest.approx(sum(loss * len(part) for loss, part, _ in seen) / 67)]


def test_training_images_are_mirrored_and_of_other_exposure_and_grain() -> None:
    """Halves of 78 and 178 grey levels: their middle, gap and spread tell what was done."""
    images = torch.full((2000, 64, 64), 78, dtype=torch.uint8)
    images[:, :, 32:] = 178
    found = classifier._disturbed(images, torch.Generator().manual_seed(1)).double()
    left, right = found[:, :, :32], found[:, :, 32:]
    gap = right.mean((1, 2)) - left.mean((1, 2))
    assert float((gap < 0).double().mean()) == pytest.approx(0.5, abs=0.03)
    assert [float(gap.abs().min()), float(gap.abs().max())] == pytest.approx([80, 120], abs=1)
    middle = found.mean((1, 2)) - 128
    assert [float(middle.min()), float(middle.max())] == pytest.approx([-20, 20], abs=1)
    spread = left.std((1, 2))
    assert [float(spread.min()), float(spread.max())] == pytest.approx([0, 20], abs=1)
    bright = classifier._disturbed(
        torch.full((99, 8, 8), 250, dtype=torch.uint8), torch.Generator()
    )
    dark = classifier._disturbed(torch.zeros((99, 8, 8), dtype=torch.uint8), torch.Generator())
    assert int(bright.max()) == 255
    assert int(bright.min()) > 150  # nothing runs over
    assert int(dark.min()) == 0
    assert int(dark.max()) < 130


def test_each_layer_halves_the_image(cpu: torch.device) -> None:
    extractor = classifier.ClassifierExtractor(settings(), 6)
    assert extractor.dims == 6
    assert extractor.convolutions(torch.zeros(1, 1, 16, 16)).shape == (1, 8, 4, 4)
    assert [p.numel() for p in extractor.convolutions.parameters()] == [72, 8, 8, 576, 8, 8]


def test_one_patient_alone_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match="two patients"):
        _held_out(["p"] * 9, 0.2, (1,))


def test_what_is_told_of_unseen_patients_is_of_unseen_ones(cpu: torch.device) -> None:
    """Labels without meaning: what was seen is learnt by heart, what was not is guessed."""
    rng = np.random.default_rng(3)
    images = tuple(rng.integers(0, 256, (40, 16, 16), dtype=np.uint8) for _ in range(2))
    patients = [f"a{i}" for i in range(40)], [f"b{i}" for i in range(40)]
    told: list[tuple[int, float]] = []
    found = train_classifier(
        (images[0], images[1]), patients, settings(60), 16, 1, cpu, lambda *now: told.append(now)
    )
    assert [epoch for epoch, _ in told] == list(range(1, 61))
    assert told[-1][1] < told[0][1]
    assert 0.2 < found.held_out_accuracy < 0.8


def test_every_stream_of_randomness_has_the_seed_and_a_number_of_its_own(
    cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = noted_streams(monkeypatch, classifier)
    trained(cpu, 1)
    assert [seed for seed, _ in keys] == [1, 1, 1]
    assert len(set(keys)) == 3
