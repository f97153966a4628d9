"""Experiments on few real images, with generators that see no other ones.

In ``SCARCITY`` both classes are few; in ``IMBALANCE`` PNEUMONIA is, as in a clinic. A repeat is one
draw of patients, generators that are trained on it alone, and a classifier of each network in each
arm. Early stopping, the share of added images in a batch and their filter are chosen by validation
patients within the draw. Every arm has as many trainings to choose from.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal

import numpy as np
import torch

from ..common.errors import UserError
from ..common.rng import Stream, integer_seed
from ..config.utility import UtilitySettings
from ..data.classes import CLASSES
from ..data.dataset import ImageSet
from ..data.patients import Indices
from .classifiers import (
    NETWORKS,
    Logits,
    Recipe,
    balanced_recipe,
    predict_logits,
    train_by_recipe,
    without_prior,
)
from .runs import map_trainings, min_patients_of_classes, subset_rows, validation_split

Added = Literal["generated", "unused"]


@dataclass(frozen=True)
class ExperimentArm:
    """What the classifiers of one arm are trained on, beside the real images of a draw."""

    added: Added | None  # generated images, or as many real ones of other patients
    augmented: bool  # by classical augmentation
    # As many images of each class, or as they come; then classes may weigh the same in the loss.
    batches: Literal["balanced", "natural", "weighted"] = "balanced"


@dataclass(frozen=True)
class Draw:
    """Train images of one repeat, as indices; all of a patient are in one of the parts."""

    level: float
    repeat: int
    seed: int  # of all else that is random in the repeat
    fit: Indices  # to train generators and classifiers on
    validation: Indices
    unused: Indices  # of patients who are not drawn


@dataclass(frozen=True)
class DrawnSets:
    """The images of a draw, as the classifiers see them."""

    draw: Draw
    fit: ImageSet
    validation: ImageSet
    added: Mapping[Added, ImageSet]


@dataclass(frozen=True)
class Experiment:
    """Arms at several levels of scarcity, compared with classical augmentation."""

    name: str  # of its section in ``UtilitySettings``
    number: int  # names its random streams
    schedule: Callable[[UtilitySettings], tuple[Sequence[float], int]]  # levels and repeats
    fractions: Callable[[ImageSet, float], Mapping[str, float]]  # of each class's images, by level
    arms: Mapping[str, ExperimentArm]
    baseline: str  # the arm of classical augmentation
    challengers: tuple[str, ...]  # arms that are tested against it
    generated_classes: tuple[str, ...]


# Functions by their names, since an experiment is sent to other processes.
def _scarcity_schedule(settings: UtilitySettings) -> tuple[Sequence[float], int]:
    """Return the fractions and the number of draws of each."""
    return settings.scarcity.fractions, settings.scarcity.repeats


def _imbalance_schedule(settings: UtilitySettings) -> tuple[Sequence[float], int]:
    """Return the prevalences and the number of draws of each."""
    return settings.imbalance.prevalences, settings.imbalance.repeats


def _scarce_fractions(images: ImageSet, level: float) -> dict[str, float]:
    """Return the same fraction of each class."""
    return dict.fromkeys(CLASSES, level)


def _imbalanced_fractions(images: ImageSet, level: float) -> dict[str, float]:
    """Return all of NORMAL, and the fraction of PNEUMONIA that makes its share ``level``."""
    normal, pneumonia = (len(images.class_indices(label)) for label in CLASSES)
    fraction = normal * level / (1 - level) / pneumonia
    if fraction >= 1:
        raise UserError(
            f"utility.imbalance.prevalences: {level:g} is no less than the share of PNEUMONIA in "
            "the train images; set it lower"
        )
    return {"NORMAL": 1.0, "PNEUMONIA": fraction}


CONTROL = "real + classical + unused real"  # the positive control
SCARCITY = Experiment(
    name="scarcity",
    number=0,
    schedule=_scarcity_schedule,
    fractions=_scarce_fractions,
    arms={
        "real": ExperimentArm(None, augmented=False),
        "real + classical": ExperimentArm(None, augmented=True),
        "real + generated": ExperimentArm("generated", augmented=False),
        "real + both": ExperimentArm("generated", augmented=True),
        CONTROL: ExperimentArm("unused", augmented=True),
    },
    baseline="real + classical",
    challengers=("real + generated", "real + both", CONTROL),
    generated_classes=CLASSES,
)
IMBALANCE = Experiment(
    name="imbalance",
    number=1,
    schedule=_imbalance_schedule,
    fractions=_imbalanced_fractions,
    arms={
        "unbalanced": ExperimentArm(None, augmented=False, batches="natural"),
        "class weights": ExperimentArm(None, augmented=False, batches="weighted"),
        "oversampling": ExperimentArm(None, augmented=False),
        "oversampling + classical": ExperimentArm(None, augmented=True),
        "oversampling + both": ExperimentArm("generated", augmented=True),
    },
    baseline="oversampling + classical",
    challengers=("oversampling + both",),
    generated_classes=("PNEUMONIA",),
)
EXPERIMENTS = (SCARCITY, IMBALANCE)


def enabled_experiments(settings: UtilitySettings) -> list[Experiment]:
    """Return the experiments that the parameters turn on."""
    enabled = {"scarcity": settings.scarcity.enabled, "imbalance": settings.imbalance.enabled}
    return [experiment for experiment in EXPERIMENTS if enabled[experiment.name]]


def count_generators(settings: UtilitySettings) -> dict[str, int]:
    """Count the generators that the experiments train, by class."""
    counts = dict.fromkeys(CLASSES, 0)
    for experiment in enabled_experiments(settings):
        levels, repeats = experiment.schedule(settings)
        for label in experiment.generated_classes:
            counts[label] += len(levels) * repeats
    return counts


def planned_draws(
    experiment: Experiment, images: ImageSet, settings: UtilitySettings
) -> Iterator[Draw]:
    """Draw the patients of every repeat, by level.

    Args:
        experiment: which one.
        images: the real train images of both classes.
        settings: levels, repeats and seed.

    Raises:
        UserError: if a draw has fewer than two patients of a class.
    """
    levels, repeats = experiment.schedule(settings)
    for (number, level), repeat in product(enumerate(levels), range(repeats)):
        seed = integer_seed(Stream.UTILITY_DRAW, settings.seed, experiment.number, number, repeat)
        drawn = subset_rows(images, experiment.fractions(images, level), 0, seed)
        part = images.take(drawn)
        min_patients_of_classes(part, f"utility.{experiment.name} {level:g} train")
        fit, validation = validation_split(part, seed, settings.validation_fraction)
        unused = np.setdiff1d(np.arange(len(images)), drawn)
        yield Draw(level, repeat, seed, drawn[fit], drawn[validation], unused)


def generated_count(experiment: Experiment, images: ImageSet, draw: Draw, label: str) -> int:
    """Return how many images of a class are generated in a draw.

    They are as many as there are unused real ones, or as PNEUMONIA lacks to be as many as NORMAL.
    """
    if experiment is SCARCITY:
        return len(images.take(draw.unused).class_indices(label))
    fit = images.take(draw.fit)
    normal, pneumonia = (len(fit.class_indices(name)) for name in CLASSES)
    return max(normal - pneumonia, 1)


@dataclass(frozen=True)
class ArmResult:
    """Logits of the network of an arm that the validation images chose."""

    network: str
    arm: str
    level: float
    way: str  # in which images were added; empty where none were
    test: Logits  # of the test images, for a prevalence of a half
    patients: int  # number of those trained on, without generated ones
    images: int


def run_experiment(
    experiment: Experiment,
    draws: Sequence[DrawnSets],
    test: ImageSet,
    settings: UtilitySettings,
    device: torch.device,
    workers: int,
) -> Iterator[list[ArmResult]]:
    """Train all arms of each draw and network, and yield their results in order.

    Args:
        experiment: which one.
        draws: the images of every repeat.
        test: real images of the test split.
        settings: the schedule of the classifiers, and the ways to add images.
        device: the device to train on.
        workers: number of parallel processes on a CPU; the results do not depend on it.
    """
    work = partial(train_arms, experiment=experiment, test=test, settings=settings, device=device)
    yield from map_trainings(work, product(draws, NETWORKS), device, workers)


def train_arms(
    item: tuple[DrawnSets, str],
    experiment: Experiment,
    test: ImageSet,
    settings: UtilitySettings,
    device: torch.device,
) -> list[ArmResult]:
    """Train a network in all arms on the images of one draw.

    Raises:
        UserError: if a training diverges, or the only filter leaves no added image of a class.
    """
    sets, network = item
    draw = sets.draw
    own = settings.model_copy(update={"seed": draw.seed})
    ways = list(product(settings.added_shares, settings.added_filters))
    judge: torch.nn.Module | None = None
    results = {}
    # The baseline comes first, since its network is the filter of added images.
    for name in sorted(experiment.arms, key=lambda name: name != experiment.baseline):
        arm = experiment.arms[name]
        whole = None if arm.added is None else sets.added[arm.added]
        filtered = {"none": whole, "confident": whole}
        if whole is not None and "confident" in settings.added_filters:
            assert judge is not None
            filtered["confident"] = confident(judge, whole, device)
        trained = []
        for index, (share, kind) in enumerate(ways):
            added = filtered[kind]
            if whole is not None and added is None:
                continue  # the filter leaves a class without images
            recipe = _recipe(arm, sets.fit, added, share, own.batch_size)
            key = (list(NETWORKS).index(network), index)
            model, loss = train_by_recipe(network, recipe, sets.validation, own, key, device)
            way = "" if added is None else f"{share:g}, filter {kind}"
            trained.append((loss, index, way, model, recipe))
        if not trained:
            raise UserError(
                "utility.added_filters: confident leaves no added image of a class; add none"
            )
        _, _, way, model, recipe = min(trained, key=lambda each: each[:2])
        if name == experiment.baseline:
            judge = model
        logits = without_prior(predict_logits(model, test.images, device), recipe.prevalence)
        results[name] = ArmResult(
            network,
            name,
            draw.level,
            way,
            logits,
            sets.fit.patients.count,
            len(sets.fit),
        )
    return [results[name] for name in experiment.arms]


def confident(judge: torch.nn.Module, added: ImageSet, device: torch.device) -> ImageSet | None:
    """Return the images that a classifier takes for their class; None if a class loses all."""
    agrees = (predict_logits(judge, added.images, device) > 0) == added.is_pneumonia
    kept = added.take(np.flatnonzero(agrees))
    return kept if set(kept.is_pneumonia) == set(added.is_pneumonia) else None


def count_ways(results: Sequence[ArmResult]) -> dict[str, dict[str, int]]:
    """Count how often the validation images chose each way to add images, by arm."""
    arms = {result.arm: Counter[str]() for result in results if result.way}
    for result in results:
        if result.way:
            arms[result.arm][result.way] += 1
    return {arm: dict(sorted(ways.items())) for arm, ways in arms.items()}


def _recipe(
    arm: ExperimentArm, fit: ImageSet, added: ImageSet | None, share: float, batch_size: int
) -> Recipe:
    """Return the recipe of an arm's batches."""
    if arm.batches == "balanced":
        if added is None:
            return balanced_recipe([fit], arm.augmented, batch_size)
        return balanced_recipe([fit, added], arm.augmented, batch_size, [1 - share, share])
    prevalence = float(fit.is_pneumonia.mean())
    parts = [(fit, batch_size)]
    if arm.batches == "natural":
        return Recipe(parts, arm.augmented, prevalence=prevalence)
    return Recipe(parts, arm.augmented, weights=(0.5 / (1 - prevalence), 0.5 / prevalence))
