"""With a quarter of the default training the hypothesis holds, by training, not by construction."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from src.common.devices import choose_compute
from src.config.settings import load_settings
from src.data.classes import CLASSES
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.metrics.classifier import train_classifier
from src.metrics.features import extract_features
from src.metrics.hypothesis import HypothesisResult
from src.metrics.protocol import compare_sets
from src.metrics.scores import FeatureSample
from src.metrics.verdict import judge_hypothesis
from src.models.networks import Generator
from src.models.sampling import generate
from src.training.loop import TrainingCallbacks, train
from src.training.trainer import Trainer
from tests.conftest import ROOT, all_drawn, collected, prepared_from

pytestmark = pytest.mark.long

Judge = Callable[[list[Generator]], HypothesisResult]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Generator], Judge]:
    """Generators of the default networks, and a function that judges any pair of generators."""
    settings = load_settings(ROOT / "params.yaml")
    compute = choose_compute(settings.compute)
    device = compute.device
    folder: Path = tmp_path_factory.mktemp("images")
    table = collected(settings.data, folder, folder)
    arrays, kept, _ = prepared_from(table, folder, settings.preprocess)
    chosen = [
        one.model_copy(update={"epochs": one.epochs // 4})
        for one in (settings.train.normal, settings.train.pneumonia)
    ]
    generators = [
        train(arrays["train", label], one, compute, TrainingCallbacks()).generator
        for label, one in zip(CLASSES, chosen, strict=True)
    ]
    rows = kept[kept["split"] == "train"]
    real_train = {
        label: ImageSet.of_class(
            arrays["train", label],
            label,
            Patients.from_names(rows.loc[rows["label"] == label, "patient"].tolist()),
        )
        for label in CLASSES
    }
    fid = settings.fid
    extractor = train_classifier(
        real_train,
        fid.classifier,
        fid.dims,
        fid.seed,
        device,
    ).extractor
    test_rows = kept[kept["split"] == "test"]
    samples = {
        name: FeatureSample(
            extract_features(extractor, arrays["test", label], fid.batch_size, device),
            Patients.from_names(test_rows.loc[test_rows["label"] == label, "patient"].tolist()),
        )
        for name, label in zip(("RN", "RP"), CLASSES, strict=True)
    }
    real = {name: all_drawn(sample.features) for name, sample in samples.items()}

    def judged(pair: list[Generator]) -> HypothesisResult:
        def fake(name: str, iteration: int) -> NDArray[np.float32]:
            label = ("FN", "FP").index(name)
            images = generate(pair[label], 1000 * label + iteration, fid.sample_size)
            return extract_features(extractor, images, fid.batch_size, device)

        draws = compare_sets(real, fake, 10, fid.sample_size, fid.seed)
        table = pd.DataFrame([row for part in draws for row in part])
        fakes = {
            name: FeatureSample.of_singletons(np.concatenate([fake(name, 100), fake(name, 101)]))
            for name in ("FN", "FP")
        }
        return judge_hypothesis(table, samples | fakes, fid.scores.resamples, fid.seed)

    return generators, judged


def test_trained_generators_hold_the_hypothesis(trained: tuple[list[Generator], Judge]) -> None:
    generators, judged = trained
    verdict = judged(generators)
    assert verdict.result == "holds"
    assert verdict.thesis.largest_same_mean < verdict.thesis.smallest_different_mean


def test_swapped_generators_fail_it(trained: tuple[list[Generator], Judge]) -> None:
    generators, judged = trained
    assert judged(generators[::-1]).result == "does not hold"


def test_untrained_generators_fail_it(trained: tuple[list[Generator], Judge]) -> None:
    _, judged = trained
    settings = load_settings(ROOT / "params.yaml")
    untrained = [
        Trainer(one, settings.preprocess.image_size, choose_compute(settings.compute)).generator
        for one in (settings.train.normal, settings.train.pneumonia)
    ]
    assert judged(untrained).result == "does not hold"
