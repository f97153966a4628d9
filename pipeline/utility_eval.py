"""Stage utility_eval: whether generated images help a classifier of real ones."""

import os
import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.generators import load_generators, new_images
from pipeline.stage import Stage, run_stage
from src.common.devices import choose_device
from src.common.logging import logger
from src.common.outputs import write_table
from src.common.paths import PROJECT
from src.common.progress import progress
from src.config.utility import UtilitySettings
from src.data.classes import CLASSES
from src.data.dataset import test_split, train_split
from src.data.patients import Patients
from src.models.networks import Generator
from src.utility.classifiers import LabelledImages
from src.utility.statistics import gan_accuracies, summarize
from src.utility.trials import Exams, run_trials, split_off_validation, trials
from src.utility.verdict import judge

NOISE = 50  # stream of randomness of the generated images
LEARN, JUDGE = range(2)  # what generated images are for
IMAGES_AT_ONCE = 1000


def utility_eval(stage: Stage) -> None:
    """Write reports/utility and the metrics."""
    settings = stage.settings.utility
    device = choose_device(stage.settings.compute.device)
    train = _real([train_split(label) for label in CLASSES], settings.image_size)
    fit, validation = split_off_validation(train, settings)
    test = _real([test_split(label) for label in CLASSES], settings.image_size)
    generators = load_generators(device)
    exams = Exams(
        fit,
        validation,
        test,
        _generated(generators, settings, device, LEARN, fit),
        _generated(generators, settings, device, JUDGE, test),
    )
    seen, most = (
        settings.training_steps * settings.batch_size // 2,
        int(np.bincount(fit.sick).max()),
    )
    if seen < most:
        logger.warning(
            f"utility.training_steps: {settings.training_steps} batches show {seen} images of a "
            f"class that has {most}; the classifiers do not learn from all of them"
        )
    count = sum(1 for _ in trials(settings))
    workers = len(os.sched_getaffinity(0))
    work = run_trials(exams, settings, device, workers)
    outcomes = list(progress(work, "training classifiers", count, "classifiers"))
    scores, differences = summarize(outcomes, test, settings)
    verdict = judge(differences)

    folder = PROJECT / "reports" / "utility"
    write_table(folder / "scores.csv", scores)
    write_table(folder / "differences.csv", differences)
    stage.write_metrics(
        "utility",
        {
            "beaten": verdict.beaten,
            "sentence": verdict.sentence,
            "images": {
                "fit": len(fit),
                "validation": len(validation),
                "test": len(test),
                "generated": len(exams.generated),
            },
            "repeats": settings.repeats,
            "accuracies": gan_accuracies(outcomes, exams),
        },
    )
    stage.run.log_table("utility/scores.json", scores)
    stage.run.log_table("utility/differences.json", differences)
    logger.info(verdict.sentence)


def _real(split: Sequence[tuple[NDArray[np.uint8], list[str]]], size: int) -> LabelledImages:
    """The real images of a split, both classes, reduced to ``size`` pixels."""
    parts = [_reduced(images, size) for images, _ in split]
    names = [
        f"{label} {name}"
        for label, (_, whose) in zip(CLASSES, split, strict=True)
        for name in whose
    ]
    return LabelledImages(np.concatenate(parts), _sick(parts), Patients.named(names))


def _generated(
    generators: Sequence[Generator],
    settings: UtilitySettings,
    device: torch.device,
    purpose: int,
    like: LabelledImages,
) -> LabelledImages:
    """As many generated images of each class as there are real ones, reduced as those are."""
    parts = []
    for number, generator in enumerate(generators):
        count = int((like.sick == bool(number)).sum())
        images = new_images(generator, count, device, settings.seed, NOISE, number, purpose)
        parts.append(_reduced(images, settings.image_size))
    images = np.concatenate(parts)
    return LabelledImages(images, _sick(parts), Patients.strangers(len(images)))


def _sick(parts: list[NDArray[np.uint8]]) -> NDArray[np.bool_]:
    """Whether each of the images of NORMAL, then PNEUMONIA, is of the latter."""
    return np.repeat([False, True], [len(part) for part in parts])


def _reduced(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Images of at most ``size`` pixels a side, as means of areas."""
    if images.shape[-1] <= size:
        return np.asarray(images)
    found = np.empty((len(images), size, size), dtype=np.uint8)
    for start in range(0, len(images), IMAGES_AT_ONCE):
        rows = slice(start, start + IMAGES_AT_ONCE)
        part = torch.from_numpy(np.array(images[rows])).unsqueeze(1).float()
        reduced = F.adaptive_avg_pool2d(part, size).squeeze(1)
        found[rows] = reduced.round_().to(torch.uint8).numpy()
    return found


if __name__ == "__main__":
    sys.exit(run_stage("utility_eval", utility_eval))
