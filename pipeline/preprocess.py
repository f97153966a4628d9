"""Stage preprocess: from image files to arrays of one size, and the table of what is where."""

import sys

from pipeline.stage import Stage, run_stage
from src.common.files import atomic_folder
from src.common.logging import logger
from src.common.outputs import unusable
from src.common.paths import PROJECT, table_path
from src.data.preprocess import prepare_images


def preprocess(stage: Stage) -> None:
    """Write data/arrays and the metrics."""
    data = PROJECT / "data"
    table = data / "images.csv"
    if not table.is_file():
        raise unusable(table, FileNotFoundError())
    with atomic_folder(data / "arrays") as folder:
        prepared = prepare_images(table, data / "images", stage.settings.preprocess, folder)
    stage.write_metrics(
        "preprocess",
        {
            "images": {"_".join(place): count for place, count in prepared.images.items()},
            "mean_grey": {
                "_".join(place): round(mean, 4) for place, mean in prepared.mean_grey.items()
            },
            "identical_within": prepared.identical_within,
            "identical_across": prepared.identical_across,
            "patients_across": prepared.patients_across,
            "bad_images": len(prepared.bad),
            "bad": prepared.bad,
        },
    )
    stage.run.log_file(table_path())
    for name, reason in prepared.bad.items():
        logger.info(f"skipped {name}: {reason}")
    logger.info(
        f"{sum(prepared.images.values())} images prepared, {len(prepared.bad)} skipped; identical "
        f"files: {prepared.identical_within} within and {prepared.identical_across} across the "
        f"splits; patients in both splits: {prepared.patients_across}"
    )


if __name__ == "__main__":
    sys.exit(run_stage("preprocess", preprocess))
