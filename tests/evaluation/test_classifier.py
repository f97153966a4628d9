import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from src.errors import UserError
from src.evaluation import classifier
from src.evaluation.classifier import TrainedClassifier, _held_out, train_classifier
from src.settings.fid import ClassifierSettings
from tests.conftest import noted_streams


def settings(epochs: int = 12) -> ClassifierSettings:
    return ClassifierSettings(
        channels=(8, 8), epochs=epochs, batch=16, learning_rate=0.005, held_out=0.25
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
