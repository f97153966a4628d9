"""Stage utility_eval: test whether generated images improve a classifier of real images."""

import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.stage import Stage, run_stage
from src.common.logging import logger
from src.common.outputs import write_table
from src.common.paths import PROJECT
from src.common.progress import progress
from src.common.rng import Stream, integer_seed
from src.config.utility import UtilitySettings
from src.data.dataset import ImageSet, test_sets, train_sets
from src.data.patients import Patients
from src.models.io import load_generators
from src.models.networks import Generator
from src.models.sampling import generate
from src.utility.runs import UtilitySets, planned_runs, run_classifiers, split_off_validation
from src.utility.statistics import gan_accuracies, summarize
from src.utility.verdict import judge_utility

FIT, TEST = range(2)  # purposes of generated images, which name their random streams
IMAGES_AT_ONCE = 1000


def utility_eval(stage: Stage) -> None:
    """Train the classifiers; write reports/utility and the metrics."""
    settings = stage.settings.utility
    device = stage.device()

    # Prepare the real and generated images.
    train = _reduced(train_sets(), settings.image_size)
    fit, validation = split_off_validation(train, settings.seed, settings.validation_fraction)
    test = _reduced(test_sets(), settings.image_size)
    generators = load_generators(device)
    sets = UtilitySets(
        fit,
        validation,
        test,
        _generated(generators, settings, FIT, fit),
        _generated(generators, settings, TEST, test),
    )
    seen = settings.training_steps * settings.batch_size // 2
    largest_class = int(np.bincount(fit.is_pneumonia).max())
    if seen < largest_class:
        logger.warning(
            f"utility.training_steps: {settings.training_steps} batches show {seen} images of a "
            f"class that has {largest_class}; the classifiers do not learn from all of them"
        )

    # Train the classifiers and compare them.
    count = sum(1 for _ in planned_runs(settings))
    work = run_classifiers(sets, settings, device, torch.get_num_threads())
    results = list(progress(work, "training classifiers", count, "classifiers"))
    scores, differences = summarize(results, test, settings)
    verdict = judge_utility(differences)

    # Write the results.
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
                "generated": len(sets.generated),
            },
            "repeats": settings.repeats,
            "accuracies": gan_accuracies(results, sets),
        },
    )
    stage.run.log_table("utility/scores.json", scores)
    stage.run.log_table("utility/differences.json", differences)
    logger.info(verdict.sentence)


def _generated(
    generators: Mapping[str, Generator], settings: UtilitySettings, purpose: int, like: ImageSet
) -> ImageSet:
    """Draw as many images of each class as there are real ones, and downsample them alike."""
    sets = {}
    for number, (label, generator) in enumerate(generators.items()):
        seed = integer_seed(Stream.UTILITY_GENERATED, settings.seed, number, purpose)
        count = len(like.class_indices(label))
        images = generate(generator, seed, count)
        sets[label] = ImageSet.of_class(images, label, Patients.singletons(count))
    return _reduced(sets, settings.image_size)


def _reduced(sets: Mapping[str, ImageSet], size: int) -> ImageSet:
    """Join the sets of both classes, with images of at most ``size`` pixels a side."""
    return ImageSet.joined(
        [replace(part, images=area_means(part.images, size)) for part in sets.values()]
    )


def area_means(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Downsample images (n, h, h) to (n, size, size) by area means; keep smaller images."""
    if images.shape[-1] <= size:
        return np.asarray(images)
    reduced = np.empty((len(images), size, size), dtype=np.uint8)
    for start in range(0, len(images), IMAGES_AT_ONCE):
        rows = slice(start, start + IMAGES_AT_ONCE)
        part = torch.from_numpy(np.array(images[rows])).unsqueeze(1).float()
        means = F.adaptive_avg_pool2d(part, size).squeeze(1)
        reduced[rows] = means.round_().to(torch.uint8).numpy()
    return reduced


if __name__ == "__main__":
    sys.exit(run_stage("utility_eval", utility_eval))
