"""Stage fetch: write the source's images and their table."""

import sys
from collections import Counter, defaultdict
from dataclasses import asdict, fields

from pipeline.stage import Stage, run_stage
from src.common.files import atomic_folder, sha256_of_file
from src.common.logging import logger
from src.common.paths import HOME, PROJECT
from src.data.classes import CLASSES, SPLITS
from src.data.sources import ImageRecord, collect_images
from src.data.tables import Fingerprints, atomic_table


def fetch(stage: Stage) -> None:
    """Write data/images, data/images.csv and the metrics."""
    settings = stage.settings.data
    path = PROJECT / "data" / "images.csv"
    columns = [field.name for field in fields(ImageRecord)]
    images: Counter[tuple[str, str]] = Counter()
    patients: defaultdict[tuple[str, str], Fingerprints] = defaultdict(Fingerprints)
    unknown = 0  # images whose patient is not known
    with (
        atomic_folder(PROJECT / "data" / "images") as folder,
        atomic_table(path, columns) as table,
    ):
        for record in collect_images(settings, HOME, folder):
            table.writerow(asdict(record))
            images[record.split, record.label] += 1
            patients[record.split, record.label].add(record.patient)
            unknown += not record.has_patient
    checksum = sha256_of_file(path)
    stage.run.set_tag("data.sha256", checksum)
    stage.write_metrics(
        "fetch",
        {
            "source": settings.source,
            "data_sha256": checksum,
            "images": {s: {c: images[s, c] for c in CLASSES} for s in SPLITS},
            "patients": {s: {c: patients[s, c].count_distinct() for c in CLASSES} for s in SPLITS},
            "images_without_patient": unknown,
        },
    )
    if unknown:
        logger.warning(
            f"the patients of {unknown} images are not known; each image counts as a patient of "
            "its own. Where that is wrong, intervals are too narrow and splits may share patients"
        )
    stage.run.log_file(path)
    logger.info(f"{images.total()} images of {len(CLASSES)} classes in data/images")


if __name__ == "__main__":
    sys.exit(run_stage("fetch", fetch))
