"""Says how long the networks of params.yaml would train and be judged on this machine.

`python -m src.estimate [SECTION.KEY=VALUE ...]` takes the same settings as `dvc exp run -S`.
"""

import argparse
import sys
from collections.abc import Sequence

from .common.devices import choose_compute
from .common.errors import report_errors
from .common.logging import logger
from .common.paths import HOME, PARAMS
from .common.progress import duration
from .config.settings import Settings, load_settings
from .data.archive import GIB
from .data.classes import CLASSES
from .data.download import downloaded_kermany
from .data.sources import PUBLISHED, list_archive_images, resolve_archive
from .metrics.extractors import weights_name
from .metrics.speed import seconds_per_feature
from .privacy.perturbations import DISTURBANCES
from .training.loop import steps_per_epoch
from .training.speed import seconds_per_image

PROBE = 16  # images of the timed batch; larger ones are as fast or a little faster per image


def estimate(overrides: Sequence[str]) -> None:
    """Print the estimate for params.yaml with some settings changed."""
    settings = load_settings(PARAMS, overrides)
    compute = choose_compute(settings.compute)
    device = compute.device
    weights_name(settings.fid, HOME)  # refused here, and not after hours
    counts = _train_images(settings)
    total = 0.0
    for label, train in zip(
        CLASSES, (settings.train.normal, settings.train.pneumonia), strict=True
    ):
        steps = steps_per_epoch(counts[label], train.batch_size)
        images = train.epochs * steps * train.batch_size
        each = seconds_per_image(
            train, settings.preprocess.image_size, min(train.batch_size, PROBE), compute
        )
        total += each * images
        logger.info(
            f"{label}: {train.epochs} epochs of {steps} batches of {train.batch_size} at "
            f"{1 / each:.3g} images a second on {device}: about {duration(each * images)}"
        )
    if settings.fid.extractor == "inception":
        judged, size = _judged(settings, counts), settings.preprocess.image_size
        judging = judged * seconds_per_feature(settings.fid, size, PROBE, device)
        total += judging
        logger.info(f"judging: some {judged} images through inception: about {duration(judging)}")
    logger.info(f"in all about {duration(total)}, and some minutes for the other stages")


def _judged(settings: Settings, train: dict[str, int]) -> int:
    """Images that are described by features, but for the few of the test split."""
    fid, privacy = settings.fid, settings.privacy
    generated = fid.iterations * fid.sample_size + privacy.generated_images
    disturbed = len(DISTURBANCES) * privacy.control_images
    return len(CLASSES) * (generated + disturbed) + sum(train.values())


def _train_images(settings: Settings) -> dict[str, int]:
    """Images of the train split of each class."""
    data = settings.data
    if data.source == "phantom":
        return dict.fromkeys(CLASSES, data.phantom.train_per_class)
    if not data.path and downloaded_kermany() is None:
        logger.info("the archive is not here yet: counting with Kaggle's published numbers")
        return PUBLISHED["Kaggle"]["train"]
    archive = resolve_archive(data, HOME)
    return list_archive_images(archive, round(data.max_unpacked_gib * GIB)).counts()["train"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and print the estimate."""
    parser = argparse.ArgumentParser(prog="python -m src.estimate", description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args(argv)
    return report_errors(lambda: estimate(arguments.settings))


if __name__ == "__main__":
    sys.exit(main())
