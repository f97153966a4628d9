"""Do generated images help a classifier? Trained with and without, tested on real patients.

Each arm trains the same networks by the same recipe, on real images, on generated ones, or on
both, at several sizes of the real set. What generated images must beat is classical augmentation.
The test split is looked at once, by what each training chose on held-out train patients.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context

import numpy as np
import torch

from ..common.errors import UserError
from ..common.processes import init_worker
from ..common.rng import Stream, numpy_stream
from ..config.utility import UtilitySettings
from ..data.classes import CLASSES
from ..data.dataset import ImageSet
from .classifiers import NETWORKS, Logits, diagnose, train_to_diagnose


@dataclass(frozen=True)
class Arm:
    """What the classifiers of one arm learn from."""

    real: bool
    generated: bool
    augmented: bool  # by classical means


ARMS: dict[str, Arm] = {
    "real": Arm(real=True, generated=False, augmented=False),
    "real + classical": Arm(real=True, generated=False, augmented=True),
    "real + generated": Arm(real=True, generated=True, augmented=False),
    "real + both": Arm(real=True, generated=True, augmented=True),
    "generated": Arm(real=False, generated=True, augmented=False),
}

BASELINE = "real + classical"
TOGETHER = "real + both"
CHALLENGERS = ("real + generated", TOGETHER)


@dataclass(frozen=True)
class Trial:
    """One training: which network, on what, and its number among those alike."""

    network: str
    arm: str
    fraction: float  # of the real images; 0 where there are none
    repeat: int


@dataclass(frozen=True)
class Outcome:
    """What a trained network says of images that it has not seen."""

    trial: Trial
    test: Logits  # of the real test images
    generated: Logits  # of generated ones, drawn for this


@dataclass(frozen=True)
class Exams:
    """The images of all trials."""

    fit: ImageSet  # real, to learn from
    validation: ImageSet  # real, of other patients of the train split
    test: ImageSet  # real, of the test split
    generated: ImageSet  # to learn from
    unseen: ImageSet  # generated as well, to be judged


def trials(settings: UtilitySettings) -> Iterator[Trial]:
    """All trainings, in their order."""
    for network, (arm, what), repeat in product(NETWORKS, ARMS.items(), range(settings.repeats)):
        for fraction in settings.real_fractions if what.real else (0.0,):
            yield Trial(network, arm, fraction, repeat)


def split_off_validation(images: ImageSet, seed: int, fraction: float) -> tuple[ImageSet, ImageSet]:
    """Split the train images of both classes by patient, to learn from and to validate by.

    Args:
        images: of both classes.
        seed: of the draw.
        fraction: of each class's images that are for validation.

    Raises:
        UserError: if a class has fewer than two patients.
    """
    check_patients(images, "train")
    kept, held = [], []
    for number, label in enumerate(CLASSES):
        rows = images.class_indices(label)
        rng = numpy_stream(Stream.UTILITY_VALIDATION, seed, number)
        inside, outside = images.patients.take(rows).split(fraction, rng)
        kept.append(rows[inside])
        held.append(rows[outside])
    return images.take(np.concatenate(kept)), images.take(np.concatenate(held))


def check_patients(images: ImageSet, split: str) -> int:
    """Count the patients of the class that has fewer.

    Raises:
        UserError: if it has only one.
    """
    counts = []
    for label in CLASSES:
        count = images.patients.take(images.class_indices(label)).count
        if count < 2:
            raise UserError(f"the {split} images of {label} are of too few patients for utility")
        counts.append(count)
    return min(counts)


def run_trials(
    exams: Exams, settings: UtilitySettings, device: torch.device, workers: int
) -> Iterator[Outcome]:
    """Train every network of every arm; yield what each says, in order.

    Args:
        exams: the images.
        settings: sizes and schedule.
        device: what to train on.
        workers: processes that train side by side, on a CPU; the outcome does not depend on them.

    Raises:
        UserError: if the test images of a class are all of one patient.
    """
    check_patients(exams.test, "test")
    work = partial(run_trial, exams=exams, settings=settings, device=device)
    if device.type != "cpu":
        yield from map(work, trials(settings))
        return
    # Spawned, since a fork would inherit torch's threads in an unusable state.
    with ProcessPoolExecutor(workers, get_context("spawn"), _prepare, (work,)) as pool:
        yield from pool.map(_work, trials(settings))


_in_worker: Callable[[Trial], Outcome] | None = None


def _prepare(work: Callable[[Trial], Outcome]) -> None:
    """Set up a worker, once: the images are sent to it here, and it computes with one thread."""
    global _in_worker
    init_worker()
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    _in_worker = work


def _work(trial: Trial) -> Outcome:
    assert _in_worker is not None
    return _in_worker(trial)


def run_trial(
    trial: Trial, exams: Exams, settings: UtilitySettings, device: torch.device
) -> Outcome:
    """Train one network of one arm."""
    arm = ARMS[trial.arm]
    sources = []
    if arm.real:
        sources.append(subset(exams.fit, trial.fraction, trial.repeat, settings.seed))
    if arm.generated:
        sources.append(exams.generated)
    number = list(NETWORKS).index(trial.network)
    model = train_to_diagnose(
        trial.network,
        sources,
        exams.validation,
        arm.augmented,
        settings,
        (number, trial.repeat),
        device,
    )
    return Outcome(
        trial,
        diagnose(model, exams.test.images, device),
        diagnose(model, exams.unseen.images, device),
    )


def subset(images: ImageSet, fraction: float, repeat: int, seed: int) -> ImageSet:
    """Draw images of random patients, ``fraction`` of each class; the same in every arm."""
    rows = []
    for number, label in enumerate(CLASSES):
        of_class = images.class_indices(label)
        rng = numpy_stream(Stream.UTILITY_SUBSET, seed, number, repeat)
        rows.append(of_class[images.patients.take(of_class).subset(fraction, rng)])
    return images.take(np.concatenate(rows))
