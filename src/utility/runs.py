"""Training runs of classifiers with and without generated images.

Each arm trains the same networks by the same recipe, on real images, on generated images, or on
both, for several fractions of the real images. Generated images have to beat classical
augmentation. Validation images of other train patients select the weights of each run; the test
split is used once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, TypeVar

import numpy as np
import torch

from ..common.errors import UserError
from ..common.processes import init_worker, process_pool
from ..common.rng import Stream, numpy_stream
from ..config.utility import UtilitySettings
from ..data.classes import CLASSES
from ..data.dataset import ImageSet
from ..data.patients import Indices
from .classifiers import NETWORKS, Logits, predict_logits, train_network


@dataclass(frozen=True)
class Arm:
    """Kinds of images that the classifiers of one arm are trained on."""

    real: bool
    generated: bool
    augmented: bool  # by classical augmentation


ARMS: dict[str, Arm] = {
    "real": Arm(real=True, generated=False, augmented=False),
    "real + classical": Arm(real=True, generated=False, augmented=True),
    "real + generated": Arm(real=True, generated=True, augmented=False),
    "real + both": Arm(real=True, generated=True, augmented=True),
    "generated": Arm(real=False, generated=True, augmented=False),
}

BASELINE = "real + classical"
REAL_AND_BOTH = "real + both"
CHALLENGERS = ("real + generated", REAL_AND_BOTH)


@dataclass(frozen=True)
class ClassifierRun:
    """One training run of a network, in one arm."""

    network: str
    arm: str
    fraction: float  # of the real images; 0 in an arm without them
    repeat: int  # number among the runs that differ only in their random draws


@dataclass(frozen=True)
class RunResult:
    """Logits of a trained network for images that it has not seen."""

    run: ClassifierRun
    test: Logits  # of the real test images
    generated: Logits  # of ``UtilitySets.unseen``


@dataclass(frozen=True)
class UtilitySets:
    """Image sets that all runs share."""

    fit: ImageSet  # real, to train on
    validation: ImageSet  # real, of other patients of the train split
    test: ImageSet  # real, of the test split
    generated: ImageSet  # generated, to train on
    unseen: ImageSet  # generated, to test on


def planned_runs(settings: UtilitySettings) -> Iterator[ClassifierRun]:
    """Yield all runs, in their order."""
    for network, (name, arm), repeat in product(NETWORKS, ARMS.items(), range(settings.repeats)):
        for fraction in settings.real_fractions if arm.real else (0.0,):
            yield ClassifierRun(network, name, fraction, repeat)


def split_off_validation(images: ImageSet, seed: int, fraction: float) -> tuple[ImageSet, ImageSet]:
    """Split the train images of both classes by patient, into those to fit and to validate.

    Args:
        images: images of both classes.
        seed: seed of the draw.
        fraction: share of each class's images for validation.

    Raises:
        UserError: if a class has fewer than two patients.
    """
    kept, held = validation_split(images, seed, fraction)
    return images.take(kept), images.take(held)


def validation_split(images: ImageSet, seed: int, fraction: float) -> tuple[Indices, Indices]:
    """Return the indices of the images to fit and to validate; as ``split_off_validation``."""
    min_patients_of_classes(images, "train")
    kept, held = [], []
    for number, label in enumerate(CLASSES):
        rows = images.class_indices(label)
        rng = numpy_stream(Stream.UTILITY_VALIDATION, seed, number)
        inside, outside = images.patients.take(rows).split(fraction, rng)
        kept.append(rows[inside])
        held.append(rows[outside])
    return np.concatenate(kept), np.concatenate(held)


def min_patients_of_classes(images: ImageSet, split: str) -> int:
    """Return the number of patients of the class that has fewer.

    Raises:
        UserError: if a class has fewer than two patients.
    """
    counts = []
    for label in CLASSES:
        count = images.patients.take(images.class_indices(label)).count
        if count < 2:
            raise UserError(f"the {split} images of {label} are of too few patients for utility")
        counts.append(count)
    return min(counts)


def run_classifiers(
    sets: UtilitySets, settings: UtilitySettings, device: torch.device, workers: int
) -> Iterator[RunResult]:
    """Train every network of every arm, and yield the results in order.

    Args:
        sets: the images.
        settings: the fractions, repeats and schedule.
        device: the device to train on.
        workers: number of parallel processes on a CPU; the results do not depend on it.

    Raises:
        UserError: if the test images of a class are all of one patient.
    """
    min_patients_of_classes(sets.test, "test")
    work = partial(run_classifier, sets=sets, settings=settings, device=device)
    yield from map_trainings(work, planned_runs(settings), device, workers)


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_trainings(
    work: Callable[[Item], Result], items: Iterable[Item], device: torch.device, workers: int
) -> Iterator[Result]:
    """Apply ``work``, which trains on ``device``, to each item, and yield the results in order.

    On a CPU several processes share the items; a process trains with one thread.
    """
    if device.type != "cpu":
        yield from map(work, items)
        return
    with process_pool(workers, _prepare, (work,)) as pool:
        yield from pool.map(_work, items)


_in_worker: Callable[[Any], Any] | None = None


def _prepare(work: Callable[[Any], Any]) -> None:
    """Set up a worker with one thread; the images in ``work`` are sent to it once."""
    global _in_worker
    init_worker()
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    _in_worker = work


def _work(item: Any) -> Any:
    """Do the work of one item in a worker."""
    assert _in_worker is not None
    return _in_worker(item)


def run_classifier(
    run: ClassifierRun, sets: UtilitySets, settings: UtilitySettings, device: torch.device
) -> RunResult:
    """Train one network of one arm, and predict the logits of the test images."""
    arm = ARMS[run.arm]
    sources = []
    if arm.real:
        sources.append(subset(sets.fit, run.fraction, run.repeat, settings.seed))
    if arm.generated:
        sources.append(sets.generated)
    number = list(NETWORKS).index(run.network)
    model = train_network(
        run.network,
        sources,
        sets.validation,
        arm.augmented,
        settings,
        (number, run.repeat),
        device,
    )
    return RunResult(
        run,
        predict_logits(model, sets.test.images, device),
        predict_logits(model, sets.unseen.images, device),
    )


def subset(images: ImageSet, fraction: float, repeat: int, seed: int) -> ImageSet:
    """Draw images of random patients, a ``fraction`` of each class; the same in every arm."""
    return images.take(subset_rows(images, dict.fromkeys(CLASSES, fraction), repeat, seed))


def subset_rows(
    images: ImageSet, fractions: Mapping[str, float], repeat: int, seed: int
) -> Indices:
    """Return the indices of the images of random patients, a fraction of each class."""
    rows = []
    for number, label in enumerate(CLASSES):
        of_class = images.class_indices(label)
        rng = numpy_stream(Stream.UTILITY_SUBSET, seed, number, repeat)
        rows.append(of_class[images.patients.take(of_class).subset(fractions[label], rng)])
    return np.concatenate(rows)
