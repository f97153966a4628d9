"""Draws by whole patients, arms that differ in what is added alone, and the ways to add it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from src.common.errors import UserError
from src.config.utility import UtilitySettings
from src.data.dataset import ImageSet
from src.data.patients import Patients
from src.utility import experiments
from src.utility.classifiers import (
    NETWORKS,
    Recipe,
    balanced_recipe,
    train_by_recipe,
    without_prior,
)
from src.utility.experiments import (
    CONTROL,
    IMBALANCE,
    SCARCITY,
    Draw,
    DrawnSets,
    Experiment,
    confident,
    count_generators,
    count_ways,
    enabled_experiments,
    generated_count,
    planned_draws,
    run_experiment,
    train_arms,
)
from tests.utility.test_classifiers import CPU, SETTINGS, spots
from tests.utility.test_runs import families

EMPTY: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@pytest.mark.parametrize("experiment", [SCARCITY, IMBALANCE])
def test_no_patient_is_in_two_parts_of_a_draw(experiment: Experiment) -> None:
    images = families(400)
    draws = list(planned_draws(experiment, images, SETTINGS))
    assert len(draws) == 2 * 5
    assert len({draw.seed for draw in draws}) == 10
    for draw in draws:
        parts = [draw.fit, draw.validation, draw.unused]
        assert sorted(np.concatenate(parts)) == list(range(400))
        patients = [set(images.patients.ids[part]) for part in parts]
        assert not patients[0] & patients[1]
        assert not patients[0] & patients[2]
        assert not patients[1] & patients[2]
    drawn = {tuple(draw.fit) for draw in draws}
    assert len(drawn) == 10
    again = list(planned_draws(experiment, images, SETTINGS))
    assert all(np.array_equal(a.fit, b.fit) for a, b in zip(draws, again, strict=True))


def test_scarcity_takes_a_fraction_of_each_class_with_its_validation_images() -> None:
    images = families(400)
    for draw in planned_draws(SCARCITY, images, SETTINGS):
        drawn = images.take(np.concatenate([draw.fit, draw.validation]))
        for is_pneumonia in (False, True):
            assert (drawn.is_pneumonia == is_pneumonia).sum() == 200 * draw.level
        held = images.take(draw.validation)
        assert set(held.is_pneumonia) == {False, True}
        assert len(held) == pytest.approx(SETTINGS.validation_fraction * len(drawn), abs=4)


def test_imbalance_keeps_normal_and_makes_pneumonia_as_rare_as_asked() -> None:
    images = families(400)
    for draw in planned_draws(IMBALANCE, images, SETTINGS):
        drawn = images.take(np.concatenate([draw.fit, draw.validation]))
        assert (~drawn.is_pneumonia).sum() == 200
        assert drawn.is_pneumonia.mean() == pytest.approx(draw.level, abs=0.005)
        assert set(images.take(draw.unused).is_pneumonia) == {True}


def test_a_prevalence_that_the_images_do_not_have_is_refused() -> None:
    imbalance = SETTINGS.imbalance.model_copy(update={"prevalences": (0.5,)})
    settings = SETTINGS.model_copy(update={"imbalance": imbalance})
    with pytest.raises(UserError, match=r"utility\.imbalance\.prevalences: 0\.5 is no less than"):
        list(planned_draws(IMBALANCE, families(400), settings))


def test_a_draw_of_too_few_patients_is_refused_by_its_level() -> None:
    scarcity = SETTINGS.scarcity.model_copy(update={"fractions": (0.001,)})
    settings = SETTINGS.model_copy(update={"scarcity": scarcity})
    with pytest.raises(UserError, match=r"utility\.scarcity 0\.001 train images of NORMAL are of"):
        list(planned_draws(SCARCITY, families(400), settings))


def test_as_many_images_are_generated_as_there_are_unused_real_ones_or_as_pneumonia_lacks() -> None:
    images = families(400)
    for draw in planned_draws(SCARCITY, images, SETTINGS):
        unused = images.take(draw.unused)
        for label in SCARCITY.generated_classes:
            expected = len(unused.class_indices(label))
            assert generated_count(SCARCITY, images, draw, label) == expected > 0
    for draw in planned_draws(IMBALANCE, images, SETTINGS):
        fit = images.take(draw.fit)
        lacking = (~fit.is_pneumonia).sum() - fit.is_pneumonia.sum()
        assert generated_count(IMBALANCE, images, draw, "PNEUMONIA") == lacking


def test_experiments_are_off_unless_turned_on() -> None:
    off = SETTINGS.imbalance.model_copy(update={"enabled": False})
    settings = SETTINGS.model_copy(update={"imbalance": off})
    assert enabled_experiments(settings) == [SCARCITY]
    assert count_generators(settings) == {"NORMAL": 10, "PNEUMONIA": 10}
    assert count_generators(SETTINGS) == {"NORMAL": 10, "PNEUMONIA": 20}


def sets(experiment: Experiment) -> DrawnSets:
    """Real images of two gray levels, and added ones that say by theirs where they come from."""
    fit = spots(40, 0)
    if experiment is IMBALANCE:
        fit = fit.take(np.concatenate([fit.class_indices("NORMAL"), [1, 3]]))
    added = spots(30, 3)
    if experiment is IMBALANCE:
        added = added.take(added.class_indices("PNEUMONIA"))
    return DrawnSets(
        Draw(0.5, 0, 7, EMPTY, EMPTY, EMPTY),
        fit,
        spots(20, 1),
        {
            "generated": replace(added, images=np.full_like(added.images, 1)),
            "unused": replace(added, images=np.full_like(added.images, 2)),
        },
    )


def recorded(
    monkeypatch: pytest.MonkeyPatch, experiment: Experiment, settings: UtilitySettings
) -> list[tuple[Recipe, tuple[int, int]]]:
    """The recipes and keys of the trainings of one draw, without the trainings."""
    calls: list[tuple[Recipe, tuple[int, int]]] = []

    def train(
        network: str,
        recipe: Recipe,
        validation: ImageSet,
        own: UtilitySettings,
        key: tuple[int, int],
        device: torch.device,
    ) -> tuple[torch.nn.Module, float]:
        assert own.seed == 7
        assert len(validation) == 20
        calls.append((recipe, key))
        return NETWORKS[network](16), 1.0

    monkeypatch.setattr(experiments, "train_by_recipe", train)
    train_arms((sets(experiment), "residual"), experiment, spots(20, 2), settings, CPU)
    return calls


UNFILTERED = SETTINGS.model_copy(update={"added_filters": ("none",)})


def added_values(parts: Sequence[tuple[ImageSet, int]]) -> set[int]:
    """Which added images are in a batch: 1 for generated, 2 for unused real ones."""
    return {int(part.images.max()) for part, _ in parts} & {1, 2}


def test_the_arms_of_scarcity_add_what_their_names_say_in_each_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = recorded(monkeypatch, SCARCITY, UNFILTERED)
    order = ["real + classical", "real", "real + generated", "real + both", CONTROL]
    expected = [set(), set(), {1}, {1}, {2}]
    augmented = [True, False, False, True, True]
    for index, (recipe, key) in enumerate(calls):
        arm, way = divmod(index, 2)
        assert key == (1, way), order[arm]  # the same start in every arm
        assert added_values(recipe.parts) == expected[arm]
        assert recipe.augmented == augmented[arm]
        counts = [count for _, count in recipe.parts]
        assert counts == ([[6, 6, 2, 2], [4, 4, 4, 4]][way] if expected[arm] else [8, 8])
        assert (recipe.weights, recipe.prevalence) == (None, 0.5)
    assert len(calls) == 10


def test_the_arms_of_imbalance_differ_in_batches_weights_and_added_pneumonia(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = recorded(monkeypatch, IMBALANCE, UNFILTERED)
    baseline, natural, weighted, oversampled, both = (recipe for recipe, _ in calls[::2])
    prevalence = 2 / 22
    assert [count for _, count in natural.parts] == [16]
    assert (natural.weights, natural.prevalence) == (None, prevalence)
    assert [count for _, count in weighted.parts] == [16]
    assert weighted.weights == pytest.approx((0.5 / (1 - prevalence), 0.5 / prevalence))
    assert weighted.prevalence == 0.5
    assert [count for _, count in oversampled.parts] == [8, 8]
    assert [count for _, count in baseline.parts] == [8, 8]
    assert (oversampled.augmented, baseline.augmented) == (False, True)
    # Of 8 images of PNEUMONIA a quarter is generated, and none of NORMAL.
    assert [(count, bool(part.is_pneumonia[0])) for part, count in both.parts] == [
        (8, False),
        (6, True),
        (2, True),
    ]
    assert added_values(both.parts[2:]) == {1}


def test_equal_shares_are_those_of_every_training_by_sources() -> None:
    source = spots(20, 0)
    for sources in ([source], [source] * 2, [source] * 3):
        counts = [count for _, count in balanced_recipe(sources, False, 16).parts]
        assert counts == [16 // (2 * len(sources))] * 2 * len(sources)


def test_the_way_with_the_lowest_validation_loss_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(network: str, recipe: Recipe, *rest: object) -> tuple[torch.nn.Module, float]:
        return NETWORKS[network](16), float(recipe.parts[-1][1])  # few added ones are best

    monkeypatch.setattr(experiments, "train_by_recipe", train)
    item = (sets(SCARCITY), "LeNet-5")
    results = train_arms(item, SCARCITY, spots(20, 2), UNFILTERED, CPU)
    assert [result.arm for result in results] == list(SCARCITY.arms)
    expected = {"0.25, filter none": 1}
    arms = ("real + generated", "real + both", CONTROL)
    assert count_ways(results) == dict.fromkeys(arms, expected)


def test_the_filter_keeps_what_its_judge_takes_for_its_class() -> None:
    class Bright(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3))

    gray = np.array([10, 200, 10, 200], dtype=np.uint8)
    images = np.broadcast_to(gray[:, None, None], (4, 16, 16)).copy()
    added = ImageSet(images, np.array([False, False, True, True]), Patients.singletons(4))
    kept = confident(Bright(), added, CPU)
    assert kept is not None
    assert list(kept.patients.ids) == [0, 3]
    assert confident(Bright(), added.take(np.array([0, 2])), CPU) is None


def test_a_filter_that_leaves_nothing_is_left_out_or_refused_if_it_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(experiments, "confident", lambda *_: None)
    calls = recorded(monkeypatch, SCARCITY, SETTINGS)
    assert len(calls) == 2 * 4 + 3 * 2
    only = SETTINGS.model_copy(update={"added_filters": ("confident",)})
    with pytest.raises(UserError, match=r"utility\.added_filters: confident leaves no added"):
        recorded(monkeypatch, SCARCITY, only)


def test_logits_lose_the_prevalence_of_their_training() -> None:
    logits = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(without_prior(logits, 0.5), logits)
    np.testing.assert_allclose(without_prior(logits, 0.1), logits + np.log(9))


def test_natural_batches_teach_their_prevalence_and_weights_take_it_out() -> None:
    """Images that say nothing: the logit is the log odds of the classes, as the loss sees them."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 110, (200, 16, 16), dtype=np.uint8)
    fit = ImageSet(images, np.arange(200) < 40, Patients.singletons(200))
    settings = SETTINGS.model_copy(update={"training_steps": 150})
    natural = Recipe([(fit, 16)], augmented=False, prevalence=0.2)
    weighted = Recipe([(fit, 16)], augmented=False, weights=(0.625, 2.5))
    middle = {}
    for name, recipe in (("natural", natural), ("weighted", weighted)):
        model, _ = train_by_recipe("LeNet-5", recipe, spots(40, 1), settings, (0, 0), CPU)
        logits = experiments.predict_logits(model, images, CPU)
        middle[name] = float(np.median(logits))
    assert middle["natural"] < -0.7
    assert middle["weighted"] - middle["natural"] > 0.6


def test_the_results_do_not_depend_on_the_workers() -> None:
    settings = SETTINGS.model_copy(update={"training_steps": 2})
    drawn = [sets(SCARCITY)]
    test = spots(20, 2)
    together = list(run_experiment(SCARCITY, drawn, test, settings, CPU, 2))
    assert [results[0].network for results in together] == list(NETWORKS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = train_arms((drawn[0], "LeNet-5"), SCARCITY, test, settings, CPU)
    torch.set_num_threads(threads)
    for one, other in zip(together[0], alone, strict=True):
        np.testing.assert_array_equal(one.test, other.test)
