"""Stage utility_eval: test whether generated images improve a classifier of real images."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.generators import train_generator
from pipeline.stage import Stage, run_stage
from src.common.logging import logger
from src.common.outputs import write_table
from src.common.paths import PROJECT
from src.common.progress import progress
from src.common.rng import Stream, integer_seed
from src.config.train import TrainSettings
from src.config.utility import UtilitySettings
from src.data.classes import CLASSES
from src.data.dataset import ImageSet, test_sets, train_sets
from src.data.patients import Patients
from src.models.io import load_generators
from src.models.networks import Generator
from src.models.sampling import generate
from src.training.loop import steps_per_epoch
from src.utility.classifiers import NETWORKS
from src.utility.comparisons import (
    compare,
    describe_imbalance,
    describe_scarcity,
    no_table,
    tabulate,
)
from src.utility.experiments import (
    EXPERIMENTS,
    SCARCITY,
    ArmResult,
    Draw,
    DrawnSets,
    Experiment,
    count_ways,
    enabled_experiments,
    generated_count,
    planned_draws,
    run_experiment,
)
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
    tables, experiments = _run_experiments(stage, train, test)

    # Write the results.
    folder = PROJECT / "reports" / "utility"
    write_table(folder / "scores.csv", scores)
    write_table(folder / "differences.csv", differences)
    for experiment in EXPERIMENTS:
        write_table(folder / f"{experiment.name}.csv", tables.get(experiment.name, no_table()))
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
            "prevalence": float(test.is_pneumonia.mean()),
            **experiments,
        },
    )
    stage.run.log_table("utility/scores.json", scores)
    stage.run.log_table("utility/differences.json", differences)
    for name, table in tables.items():
        stage.run.log_table(f"utility/{name}.json", table)
    logger.info(verdict.sentence)


def _run_experiments(
    stage: Stage, train: ImageSet, test: ImageSet
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Run the experiments on few real images that the parameters turn on.

    Returns:
        the table of each that was run, and the metrics of each, None of those that are off.
    """
    settings = stage.settings.utility
    tables, ways = {}, {}
    for experiment in enabled_experiments(settings):
        results = _run_experiment(stage, experiment, train, test)
        tables[experiment.name] = tabulate(experiment, results, test, settings)
        ways[experiment.name] = count_ways(results)
    comparisons = compare(tables)
    metrics: dict[str, Any] = {experiment.name: None for experiment in EXPERIMENTS}
    for experiment in enabled_experiments(settings):
        describe = describe_scarcity if experiment is SCARCITY else describe_imbalance
        _, repeats = experiment.schedule(settings)
        metrics[experiment.name] = {
            "sentence": describe(comparisons[experiment.name], repeats),
            "comparisons": comparisons[experiment.name],
            "ways": ways[experiment.name],
            "repeats": repeats,
        }
        logger.info(metrics[experiment.name]["sentence"])
    return tables, metrics


def _run_experiment(
    stage: Stage, experiment: Experiment, train: ImageSet, test: ImageSet
) -> list[ArmResult]:
    """Train the generators of each draw, and then all classifiers."""
    settings, device = stage.settings.utility, stage.device()
    draws = [
        DrawnSets(
            draw,
            train.take(draw.fit),
            train.take(draw.validation),
            {
                "generated": _generated_in_draw(stage, experiment, draw, train),
                "unused": train.take(draw.unused),
            },
        )
        for draw in list(planned_draws(experiment, train, settings))  # all are refused at once
    ]
    work = run_experiment(experiment, draws, test, settings, device, torch.get_num_threads())
    shown = progress(
        work, f"training classifiers of {experiment.name}", len(NETWORKS) * len(draws), "networks"
    )
    return [result for results in shown for result in results]


def _generated_in_draw(
    stage: Stage, experiment: Experiment, draw: Draw, train: ImageSet
) -> ImageSet:
    """Train the generators of a draw on its images alone, and draw images from them."""
    settings, whole = stage.settings, train_sets()
    sets = {}
    for number, label in enumerate(CLASSES):
        if label not in experiment.generated_classes:
            continue
        # ``train`` has the images of the classes one after the other, reduced.
        rows = draw.fit[train.is_pneumonia[draw.fit] == (label == "PNEUMONIA")]
        first = train.class_indices(label)[0]
        images = whole[label].images[rows - first]
        title = f"{experiment.name} {draw.level:g}, draw {draw.repeat + 1}, {label}"
        shared = settings.train.normal if label == "NORMAL" else settings.train.pneumonia
        training = scaled_training(shared, settings.utility.generator_images, len(images), draw)
        generator = train_generator(stage, title, label, images, training).network
        seed = integer_seed(Stream.UTILITY_GENERATED, draw.seed, number, FIT)
        count = generated_count(experiment, train, draw, label)
        drawn = generate(generator, seed, count)
        sets[label] = ImageSet.of_class(drawn, label, Patients.singletons(count))
    return _reduced(sets, settings.utility.image_size)


def scaled_training(
    settings: TrainSettings, images_seen: int, images: int, draw: Draw
) -> TrainSettings:
    """Return the settings of a class for a training on the few images of a draw.

    Args:
        settings: those of the class.
        images_seen: images of all epochs together, to the nearest epoch.
        images: number of the train images; a batch has no more.
        draw: names the seed.
    """
    batch_size = min(settings.batch_size, images)
    epoch = steps_per_epoch(images, batch_size) * batch_size
    return settings.model_copy(
        update={
            "batch_size": batch_size,
            "epochs": max(round(images_seen / epoch), 1),
            "seed": (settings.seed + draw.seed) % 2**32,
        }
    )


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
