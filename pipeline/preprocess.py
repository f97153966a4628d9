"""Stage preprocess: write the images as arrays of one size, and the table of their rows."""

import sys

from pipeline.stage import Stage, run_stage
from src.common.files import atomic_folder
from src.common.logging import logger
from src.common.outputs import unusable_file_error
from src.common.paths import PROJECT, table_path
from src.data.dataset import check_counts
from src.data.preprocess import preprocess_images


def preprocess(stage: Stage) -> None:
    """Write data/arrays and the metrics."""
    data = PROJECT / "data"
    table = data / "images.csv"
    if not table.is_file():
        raise unusable_file_error(table, FileNotFoundError())
    with atomic_folder(data / "arrays") as folder:
        result = preprocess_images(table, data / "images", stage.settings.preprocess, folder)
    if result.patients_across:
        logger.warning(
            f"{result.patients_across} patients have images in both splits; their test images are "
            "left out of all scores"
        )
    if result.enlarged:
        logger.warning(
            f"{result.enlarged} of {sum(result.images.values())} originals have a side of fewer "
            f"than {stage.settings.preprocess.image_size} pixels (preprocess.image_size) and are "
            "enlarged, which adds no detail"
        )
    check_counts(stage.settings)
    stage.write_metrics(
        "preprocess",
        {
            "images": {"_".join(part): count for part, count in result.images.items()},
            "mean_grey": {
                "_".join(part): round(mean, 4) for part, mean in result.mean_grey.items()
            },
            "identical_within": result.identical_within,
            "identical_across": result.identical_across,
            "patients_across": result.patients_across,
            "bad_images": len(result.bad),
            "bad": result.bad,
        },
    )
    stage.run.log_file(table_path())
    for name, reason in result.bad.items():
        logger.info(f"skipped {name}: {reason}")
    logger.info(
        f"{sum(result.images.values())} images prepared, {len(result.bad)} skipped; identical "
        f"files: {result.identical_within} within and {result.identical_across} across the "
        f"splits; patients in both splits: {result.patients_across}"
    )


if __name__ == "__main__":
    sys.exit(run_stage("preprocess", preprocess))
