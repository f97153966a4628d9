import numpy as np

from benchmarks.learning_curve import FIRST, epochs_to_score, split_by_patient
from src.config.settings import Settings
from src.data.patients import Patients


def test_whole_patients_are_held_out() -> None:
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1)
    patients = ["a", "b", "c", "b", "d", "c", "a", "a", "e", "d"]
    kept, held = split_by_patient(images, Patients.from_names(patients), 4)
    # e has one image, d two and c two: the last one of theirs is left aside.
    assert held.ravel().tolist() == [2, 4, 5, 8]
    assert kept.ravel().tolist() == [0, 1, 3, 6, 7]


def test_scores_lie_further_and_further_apart(tiny_settings: Settings) -> None:
    settings = tiny_settings.train.normal.model_copy(update={"epochs": 500})
    epochs = epochs_to_score(settings, steps=125)
    images = [epoch * 125 * settings.batch_size for epoch in epochs]
    assert images[0] == FIRST
    assert epochs[-1] == 500
    growth = np.divide(images[1:-1], images[:-2])
    assert ((growth > 1.4) & (growth < 1.6)).all()


def test_a_short_training_is_scored_at_its_end(tiny_settings: Settings) -> None:
    assert epochs_to_score(tiny_settings.train.normal, steps=3) == [3]
