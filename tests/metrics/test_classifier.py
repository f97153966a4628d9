from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from src.common.errors import UserError
from src.config.fid import ClassifierSettings
from src.data.classes import CLASSES
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.metrics import classifier
from src.metrics.classifier import TrainedClassifier, cached_classifier, train_classifier
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


def sets(*images: NDArray[np.uint8], of_patient: int = 1) -> dict[str, ImageSet]:
    """Sets of both classes, with so many images of each patient."""
    return {
        label: ImageSet.of_class(part, label, Patients(np.arange(len(part)) // of_patient))
        for label, part in zip(CLASSES, images, strict=True)
    }


EASY = sets(easy_images(60, False), easy_images(30, True), of_patient=2)


def trained(cpu: torch.device, epochs: int = 12) -> TrainedClassifier:
    return train_classifier(EASY, settings(epochs), 6, 1, cpu)


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
    easy = sets(easy_images(60, False), easy_images(30, True))
    shown = settings(1).model_copy(update={"batch_size": 17})  # 45 and 23 are kept: four of 17
    found = train_classifier(easy, shown, 6, 1, cpu)
    y, weight = (torch.cat([part[i] for part in seen]) for i in (1, 2))
    assert (len(y), int(y.sum())) == (68, 23)
    assert float(weight[y > 0].sum()) == pytest.approx(34)
    assert float(weight[y == 0].sum()) == pytest.approx(34)
    assert list(found.losses) == [
        pytest.approx(sum(loss * len(part) for loss, part, _ in seen) / 68)
    ]


def test_training_images_are_mirrored_and_of_other_exposure_and_grain() -> None:
    """Halves of 78 and 178 grey levels: their middle, gap and spread tell what was done."""
    images = torch.full((2000, 64, 64), 78, dtype=torch.uint8)
    images[:, :, 32:] = 178
    found = classifier._augmented(images, torch.Generator().manual_seed(1)).double()
    left, right = found[:, :, :32], found[:, :, 32:]
    gap = right.mean((1, 2)) - left.mean((1, 2))
    assert float((gap < 0).double().mean()) == pytest.approx(0.5, abs=0.03)
    assert [float(gap.abs().min()), float(gap.abs().max())] == pytest.approx([80, 120], abs=1)
    middle = found.mean((1, 2)) - 128
    assert [float(middle.min()), float(middle.max())] == pytest.approx([-20, 20], abs=1)
    spread = left.std((1, 2))
    assert [float(spread.min()), float(spread.max())] == pytest.approx([0, 20], abs=1)
    bright = classifier._augmented(
        torch.full((99, 8, 8), 250, dtype=torch.uint8), torch.Generator()
    )
    dark = classifier._augmented(torch.zeros((99, 8, 8), dtype=torch.uint8), torch.Generator())
    assert int(bright.max()) == 255
    assert int(bright.min()) > 150  # nothing runs over
    assert int(dark.min()) == 0
    assert int(dark.max()) < 130


def test_each_layer_halves_the_image(cpu: torch.device) -> None:
    extractor = classifier.ClassifierExtractor(settings(), 6)
    assert extractor.dims == 6
    assert extractor.convolutions(torch.zeros(1, 1, 16, 16)).shape == (1, 8, 4, 4)
    assert [p.numel() for p in extractor.convolutions.parameters()] == [72, 8, 8, 576, 8, 8]


def test_one_patient_alone_cannot_be_held_out(cpu: torch.device) -> None:
    alone = sets(easy_images(9, False), easy_images(9, True), of_patient=9)
    with pytest.raises(UserError, match="two patients"):
        train_classifier(alone, settings(1), 6, 1, cpu)


def test_what_is_told_of_unseen_patients_is_of_unseen_ones(cpu: torch.device) -> None:
    """Labels without meaning: what was seen is learnt by heart, what was not is guessed."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (40, 16, 16), dtype=np.uint8) for _ in range(2)]
    done: list[None] = []
    found = train_classifier(sets(*images), settings(60), 16, 1, cpu, lambda: done.append(None))
    assert len(done) == len(found.losses) == 60
    assert found.losses[-1] < found.losses[0]
    assert 0.2 < found.held_out_accuracy < 0.8


def test_every_stream_of_randomness_has_the_seed_and_a_number_of_its_own(
    cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = noted_streams(monkeypatch, classifier)
    trained(cpu, 1)
    assert [seed for _, seed in keys] == [1, 1, 1]
    assert len(set(keys)) == 3


def test_a_classifier_is_trained_once_and_comes_back_with_the_same_bytes(
    cpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = []
    train = classifier.train_classifier
    monkeypatch.setattr(
        classifier, "train_classifier", lambda *given: trainings.append(1) or train(*given)
    )

    def cached(**changes: object) -> TrainedClassifier:
        given = {"train": EASY, "settings": settings(1), "dims": 6, "seed": 1, "device": cpu}
        return cached_classifier(**given | changes, folder=tmp_path)  # type: ignore[arg-type]

    first, again = cached(), cached()
    assert trainings == [1]
    assert first.extractor.fingerprint == again.extractor.fingerprint
    assert first.extractor.fingerprint == trained(cpu, 1).extractor.fingerprint
    assert (first.losses, first.held_out_accuracy) == (again.losses, again.held_out_accuracy)
    # Whatever it depends on makes it another one.
    others = sets(easy_images(60, False), easy_images(30, True), of_patient=3)
    before = len(trainings)
    for change in ({"train": others}, {"settings": settings(2)}, {"dims": 5}, {"seed": 2}):
        cached(**change)
    assert len(trainings) == before + 4
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    cached()
    torch.set_num_threads(threads)
    assert len(trainings) == before + 5


def test_a_damaged_classifier_is_trained_again_with_a_warning(
    cpu: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (EASY, settings(1), 6, 1, cpu, tmp_path)
    first = cached_classifier(*given)
    (file,) = tmp_path.glob("*.pt")
    file.write_bytes(b"no weights")
    again = cached_classifier(*given)
    assert again.extractor.fingerprint == first.extractor.fingerprint
    assert "is made again" in capsys.readouterr().err


def test_a_cache_folder_that_cannot_be_written_costs_a_warning_alone(
    cpu: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    found = cached_classifier(EASY, settings(1), 6, 1, cpu, tmp_path / "file" / "classifiers")
    assert found.extractor.fingerprint == trained(cpu, 1).extractor.fingerprint
    assert "nothing is kept there" in capsys.readouterr().err
