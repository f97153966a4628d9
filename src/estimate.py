"""Estimate the time and memory that the networks of params.yaml take on this machine.

`python -m src.estimate [SECTION.KEY=VALUE ...]` takes the same settings as `dvc exp run -S`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .common.errors import report_errors
from .common.logging import logger
from .common.paths import HOME, PARAMS
from .data.classes import CLASSES

if TYPE_CHECKING:
    from .config.settings import Settings

PROBE = 16  # images of the timed batch; larger ones are as fast or a little faster per image
TRACKING_BYTES = 128 << 20  # of MLflow and what else a training imports beside this program


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and print the estimate."""
    parser = argparse.ArgumentParser(prog="python -m src.estimate", description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SECTION.KEY=VALUE")
    overrides: list[str] = parser.parse_args(argv).settings

    def work() -> None:
        from .config.settings import load_settings

        estimate(load_settings(PARAMS, overrides))

    return report_errors(work)


def estimate(settings: "Settings") -> None:
    """Print the time of each training and of the judging, their sum, and the memory of a training.

    Raises:
        UserError: if the images, or the weights of the network that judges, cannot be used.
    """
    from .common.devices import choose_compute
    from .common.progress import duration
    from .metrics.extractors import weights_name
    from .metrics.speed import seconds_per_feature
    from .training.loop import steps_per_epoch
    from .training.speed import peak_memory, seconds_per_image
    from .utility.experiments import count_generators

    compute = choose_compute(settings.compute)
    device, size = compute.device, settings.preprocess.image_size
    weights_name(settings.fid, HOME)  # refused here, and not after hours
    counts = _count_train_images(settings)
    total, memory = 0.0, 0
    experiments = count_generators(settings.utility)
    # Time one small batch of each training, and measure the memory of a whole one. Those of the
    # experiments count at the same speed.
    for label, train in zip(
        CLASSES, (settings.train.normal, settings.train.pneumonia), strict=True
    ):
        steps = steps_per_epoch(counts[label], train.batch_size)
        images = train.epochs * steps * train.batch_size
        each = seconds_per_image(train, size, min(train.batch_size, PROBE), compute)
        total += each * images
        peak = peak_memory(train, size, compute)
        if device.type == "cpu":
            peak += TRACKING_BYTES + counts[label] * size**2  # the images, read from the disk
        memory = max(memory, peak)
        logger.info(
            f"{label}: {train.epochs} epochs of {steps} batches of {train.batch_size} at "
            f"{1 / each:.3g} images a second on {device}: about {duration(each * images)}"
        )
        if settings.privacy.membership:
            total += each * images
            logger.info(
                f"{label}: two generators on halves for privacy.membership: about "
                f"{duration(each * images)}"
            )
        if count := experiments[label]:
            seconds = each * count * settings.utility.generator_images
            total += seconds
            logger.info(
                f"{label}: {count} generators of utility.scarcity and utility.imbalance: about "
                f"{duration(seconds)}, and their classifiers"
            )
    # Time one small batch of the network that judges; the other extractors take no time.
    if settings.fid.extractor == "inception":
        judged = _count_judged_images(settings, counts)
        judging = judged * seconds_per_feature(settings.fid, size, PROBE, device)
        total += judging
        logger.info(f"judging: some {judged} images through inception: about {duration(judging)}")
    logger.info(f"memory of a training on {device}: about {memory / 2**30:.1f} GiB at its peak")
    logger.info(f"in all about {duration(total)}, and some minutes for the other stages")


def _count_judged_images(settings: "Settings", train: Mapping[str, int]) -> int:
    """Count the images that get features, but for the few of the test split."""
    from .privacy.perturbations import PERTURBATIONS

    fid, privacy = settings.fid, settings.privacy
    generated = fid.iterations * fid.sample_size + privacy.generated_images
    generated += 2 * privacy.membership_images if privacy.membership else 0
    perturbed = len(PERTURBATIONS) * privacy.control_images
    return len(CLASSES) * (generated + perturbed) + sum(train.values())


def _count_train_images(settings: "Settings") -> Mapping[str, int]:
    """Count the images of the train split of each class."""
    from .data.sources import reader_of

    return reader_of(settings.data).count_train(settings.data, HOME)


if __name__ == "__main__":
    sys.exit(main())
