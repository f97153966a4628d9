import numpy as np
import pytest
import torch

from src.common.errors import UserError
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.metrics.extractors import PixelExtractor
from src.privacy.copy_filter import PIXELS, CopyFilter, make_spaces
from src.privacy.copy_test import find_copies
from src.privacy.perturbations import PERTURBATIONS
from tests.privacy.test_copy_test import SETTINGS, phantoms


def test_copies_are_left_out_and_others_stay_as_often_as_the_baseline_says() -> None:
    real = phantoms(2021, train=300, test=2)["train"]
    others = phantoms(5, train=200, test=2)["train"].images
    spaces = make_spaces(PixelExtractor(64), 50, torch.device("cpu"))
    assert list(spaces) == [PIXELS, "pixels features"]
    found = CopyFilter(real, {PIXELS: spaces[PIXELS]}, SETTINGS, key=0)
    assert found.copies(others).mean() < 0.04
    assert found.copies(real.images[:50]).all()
    for change in PERTURBATIONS.values():
        assert found.copies(change(real.images[50:90], np.random.default_rng(1))).mean() > 0.9
    both = CopyFilter(real, spaces, SETTINGS, key=0)
    assert (both.copies(others) >= found.copies(others)).all()  # in any space


def test_the_thresholds_are_those_of_the_verdict() -> None:
    drawn = phantoms(7, train=120, test=60)
    made = phantoms(8, train=100, test=2)["train"].images
    spaces = make_spaces(PixelExtractor(64), 50, torch.device("cpu"))
    judged = find_copies(drawn["train"], drawn["test"], made, spaces[PIXELS], SETTINGS, 0.01, 1)
    left_out = CopyFilter(drawn["train"], {PIXELS: spaces[PIXELS]}, SETTINGS, key=1).copies(made)
    assert left_out.sum() == judged.results["generated"].near_images


def test_too_few_patients_are_refused_rather_than_let_every_copy_pass() -> None:
    real = phantoms(7, train=30, test=2)["train"]
    few = ImageSet.of_class(real.images, "NORMAL", Patients(np.arange(len(real)) % 3))
    spaces = make_spaces(PixelExtractor(64), 50, torch.device("cpu"))
    with pytest.raises(UserError, match="the train images are of fewer than 4 patients"):
        CopyFilter(few, spaces, SETTINGS, key=0)


def test_the_same_seed_and_key_give_the_same_thresholds() -> None:
    real = phantoms(2021, train=120, test=2)["train"]
    spaces = {PIXELS: make_spaces(PixelExtractor(64), 50, torch.device("cpu"))[PIXELS]}
    thresholds = [CopyFilter(real, spaces, SETTINGS, key)._spaces[0][1] for key in (0, 0, 1)]
    assert thresholds[0] == thresholds[1] != thresholds[2]
