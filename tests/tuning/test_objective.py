"""The objective of a trial: held-out patients, the floor, the excess and the budget."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.plain_evaluation import plain_mmd
from src.common.devices import Compute
from src.common.errors import UserError
from src.config.settings import Settings, parse_settings
from src.data.classes import CLASSES
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.metrics.extractors import PixelExtractor
from src.metrics.features import extract_features
from src.metrics.frechet import FeatureSet, frechet_distance
from src.metrics.thumbnails import thumbnails
from src.models.initialization import initialize
from src.models.networks import Generator
from src.models.sampling import generate
from src.tuning import objective as module
from src.tuning.objective import (
    Budget,
    Evaluation,
    Split,
    TrialError,
    TrialScorer,
    hold_out,
    run_trial,
)

CPU = torch.device("cpu")
Images = NDArray[np.uint8]


def features(images: Images) -> NDArray[np.float32]:
    """Means of quarters."""
    side = images.shape[-1] // 2
    parts = images.reshape(len(images), 2, side, 2, side).mean((2, 4))
    return parts.reshape(len(images), 4).astype(np.float32)


def sets(*parts: tuple[Images, list[str]]) -> dict[str, ImageSet]:
    """Sets of both classes from images and their patients' names."""
    return {
        label: ImageSet.of_class(images, label, Patients.from_names(names))
        for label, (images, names) in zip(CLASSES, parts, strict=True)
    }


@pytest.fixture
def split() -> Split:
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 120, (60, 16, 16), dtype=np.uint8)
    bright = rng.integers(120, 250, (90, 16, 16), dtype=np.uint8)
    names = [f"p{i // 2}" for i in range(90)]
    return hold_out(sets((dark, names[:60]), (bright, names)), 0.3, 14, 5)


@pytest.fixture
def scorer(split: Split) -> TrialScorer:
    return TrialScorer.of_class("NORMAL", split, features, features, 5)


def test_no_patient_is_on_both_sides_and_both_classes_judge_alike() -> None:
    images = [np.arange(n, dtype=np.uint8)[:, None, None].repeat(4, 1) for n in (50, 80)]
    names = [[f"p{i // 3:02}" for i in range(n)] for n in (50, 80)]
    train = sets(*zip(images, names, strict=True))
    split = hold_out(train, 0.2, 12, 1)
    for label, of_class in zip(CLASSES, names, strict=True):
        aside = {of_class[index] for index in split.held_out[label].images[:, 0, 0]}
        kept = [of_class[index] for index in split.train[label].images[:, 0, 0]]
        assert aside.isdisjoint(kept)
        ids = train[label].patients.ids[split.train[label].images[:, 0, 0]]
        assert np.array_equal(ids, split.train[label].patients.ids)
    # A fifth of 50 images is three patients of three.
    assert {len(part) for part in split.held_out.values()} == {9}
    again = hold_out(train, 0.2, 12, 1)
    assert np.array_equal(again.held_out["NORMAL"].images, split.held_out["NORMAL"].images)
    other = hold_out(train, 0.2, 12, 2)
    assert not np.array_equal(other.held_out["NORMAL"].images, split.held_out["NORMAL"].images)


def test_too_few_images_to_judge_by_are_refused() -> None:
    few = [(np.zeros((n, 4, 4), np.uint8), [f"p{i}" for i in range(n)]) for n in (6, 60)]
    with pytest.raises(UserError, match=r"tune.held_out_fraction: \d train images"):
        hold_out(sets(*few), 0.2, 50, 1)


def test_the_excess_is_0_at_the_floor_and_1_at_the_other_class(
    split: Split, scorer: TrialScorer
) -> None:
    real, other = (split.held_out[label].images for label in CLASSES)
    mmd = plain_mmd([(of(real), of(other)) for of in (features, thumbnails)])
    assert scorer.other_class == pytest.approx(mmd, rel=1e-5)
    assert scorer.excess(scorer.other_class) == pytest.approx(1)
    assert scorer.excess(scorer.floor) == 0
    assert abs(scorer.floor) < mmd / 10
    assert scorer.score_images(other).excess == pytest.approx(1)


def test_the_score_compares_as_many_images_from_the_same_noise(
    scorer: TrialScorer, tiny_settings: Settings
) -> None:
    generator = Generator(tiny_settings.train.normal.generator, 16)
    initialize(generator, "xavier", torch.Generator().manual_seed(1))
    first, images = scorer.score(generator)
    again, same = scorer.score(generator)
    assert first == again
    assert np.array_equal(images, same)
    assert images.shape == (14, 16, 16)
    real = scorer.real.features
    mmd = plain_mmd([(real, features(images)), (scorer.real.thumbnails, thumbnails(images))])
    assert first.mmd == pytest.approx(mmd, rel=1e-4)
    assert first.excess == pytest.approx(scorer.excess(first.mmd))
    distance = frechet_distance(FeatureSet(features(images)), FeatureSet(real))
    assert first.frechet_distance == pytest.approx(distance)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_search_prefers_a_generator_whose_spread_has_not_shrunk(
    tiny: dict[str, Any], seed: int
) -> None:
    """The real images are those of one generator; the other one's latents are scaled by 0.8.

    By the Fréchet distance at this size the second is nearer: 60 images, 256 features.
    """
    tiny["train"]["normal"]["generator"].update(latent_dim=64, base_channels=16)
    generator = Generator(parse_settings(tiny).train.normal.generator, 16)
    initialize(generator, "xavier", torch.Generator().manual_seed(1))
    shrunken = copy.deepcopy(generator)
    with torch.no_grad():
        shrunken.dense.weight.mul_(0.8)  # type: ignore[operator]
    extractor = PixelExtractor(256)

    def pixels(images: Images) -> NDArray[np.float32]:
        return extract_features(extractor, images, 100, CPU)

    names = [f"p{i // 2}" for i in range(400)]
    real = generate(generator, 99, 400), 255 - generate(generator, 98, 400) // 2
    split = hold_out(sets(*((images, names) for images in real)), 0.3, 60, seed)
    scorer = TrialScorer.of_class("NORMAL", split, pixels, pixels, seed)
    varied, alike = (scorer.score(network)[0] for network in (generator, shrunken))
    assert varied.excess < alike.excess
    assert varied.frechet_distance > alike.frechet_distance  # as the search had it before
    # The intervals say it too: real ones are within the first's, and below the second's.
    assert varied.interval is not None
    assert alike.interval is not None
    assert varied.interval.low < 0 < varied.interval.high
    assert 0 < alike.interval.low < alike.excess < alike.interval.high


def test_an_excess_of_one_patient_has_no_interval(scorer: TrialScorer) -> None:
    one = scorer.real.patients.take(np.zeros(14, dtype=int))
    alone = replace(scorer, real=replace(scorer.real, patients=one))
    images = np.random.default_rng(1).integers(0, 120, (14, 16, 16), dtype=np.uint8)
    score = alone.score_images(images)
    assert score.interval is None
    assert score.as_dict().keys() == {"excess", "mmd", "frechet_distance"}


def test_a_generator_without_numbers_fails(scorer: TrialScorer, tiny_settings: Settings) -> None:
    generator = Generator(tiny_settings.train.normal.generator, 16)
    with torch.no_grad():
        generator.dense.weight.fill_(float("nan"))  # type: ignore[operator]
    with pytest.raises(TrialError, match="diverged"):
        scorer.score(generator)


def test_features_that_do_not_tell_the_classes_apart_are_refused() -> None:
    rng = np.random.default_rng(1)
    alike = rng.integers(0, 250, (60, 16, 16), dtype=np.uint8), [f"p{i}" for i in range(60)]
    held = hold_out(sets(alike, alike), 0.3, 15, 5)
    same = Split(held.train, dict.fromkeys(CLASSES, held.held_out["NORMAL"]))
    with pytest.raises(UserError, match=r"set fid\.extractor to a better one"):
        TrialScorer.of_class("NORMAL", same, features, features, 5)


Run = Callable[..., list[Evaluation]]


@pytest.fixture
def run(split: Split, scorer: TrialScorer, tiny_settings: Settings, compute: Compute) -> Run:
    def go(budget: Budget, **changes: Any) -> list[Evaluation]:
        evaluations: list[Evaluation] = []
        settings = tiny_settings.train.normal.model_copy(update=changes)
        run_trial(
            split.train["NORMAL"].images,
            settings,
            compute,
            scorer,
            budget,
            1000,
            evaluations.append,
        )
        return evaluations

    return go


def test_a_budget_in_images_is_scored_evenly_and_ends(run: Run) -> None:
    evaluations = run(Budget(80, "images", 2))
    assert [evaluation.images_seen for evaluation in evaluations] == [40, 80]
    assert [evaluation.number for evaluation in evaluations] == [1, 2]
    again = run(Budget(80, "images", 2))
    assert [evaluation.score for evaluation in again] == [
        evaluation.score for evaluation in evaluations
    ]
    one = run(Budget(80, "images", 1))
    assert one[0].score == evaluations[1].score  # looking does not change the training


def test_a_budget_in_seconds_counts_the_training_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            self.now += 1
            return self.now

    monkeypatch.setattr(module, "time", Clock())
    evaluations = run(Budget(10, "seconds", 2))
    assert len(evaluations) == 2
    assert evaluations[0].seconds >= 5
    assert 10 <= evaluations[1].seconds <= 11


def test_a_training_that_makes_no_sense_is_a_failed_trial(run: Run) -> None:
    with pytest.raises(TrialError, match="more than the"):
        run(Budget(80, "images", 1), batch_size=1000)


def test_a_training_that_diverges_is_a_failed_trial(run: Run, tiny_settings: Settings) -> None:
    optimizer = tiny_settings.train.normal.optimizer
    wild = optimizer.generator.model_copy(update={"learning_rate": 1e30})
    explosive = optimizer.model_copy(update={"generator": wild, "discriminator": wild})
    with pytest.raises(TrialError, match="epoch 1: the training has diverged: the losses are not"):
        run(Budget(10_000, "images", 1), optimizer=explosive)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_is_a_failed_trial(
    run: Run, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(module, "train", fail)
    with pytest.raises(TrialError, match="not enough memory"):
        run(Budget(80, "images", 1))


@pytest.mark.parametrize(
    "message", ["shapes do not match", "CUDA error: an illegal memory access was encountered"]
)
def test_a_defect_is_not_taken_for_a_failed_trial(
    run: Run, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(module, "train", fail)
    with pytest.raises(RuntimeError, match=message):
        run(Budget(80, "images", 1))
