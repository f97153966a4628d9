"""Stage preprocess: from image files to arrays of one size, and the table of what is where."""

import io
import sys

import numpy as np

from pipeline.stage import PROJECT, Stage, array_path, read_table, run_stage
from src.data.images import prepare_images
from src.files import write_atomic
from src.progress import say


def preprocess(stage: Stage) -> None:
    """Write data/arrays and the metrics."""
    table = read_table(PROJECT / "data" / "images.csv")
    folder = PROJECT / "data" / "images"
    prepared, kept, quality = prepare_images(table, folder, stage.settings.preprocess)
    for part in prepared:
        buffer = io.BytesIO()
        np.save(buffer, part.images, allow_pickle=False)
        write_atomic(array_path(part.label, part.split), buffer.getvalue())
    path = PROJECT / "data" / "arrays" / "table.csv"
    write_atomic(path, kept.to_csv(index=False, lineterminator="\n"))
    means = {f"{part.split}_{part.label}": float(part.images.mean()) for part in prepared}
    stage.write_metrics(
        "preprocess",
        {
            "images": {f"{part.split}_{part.label}": len(part.images) for part in prepared},
            "mean_grey": {name: round(mean, 4) for name, mean in means.items()},
            "identical_within": quality.identical_within,
            "identical_across": quality.identical_across,
            "patients_across": quality.patients_across,
            "bad_images": len(quality.bad),
            "bad": quality.bad,
        },
    )
    stage.run.log_file(path)
    for name, reason in quality.bad.items():
        say(f"skipped {name}: {reason}")
    say(
        f"{len(kept)} images prepared, {len(quality.bad)} skipped; identical files: "
        f"{quality.identical_within} within and {quality.identical_across} across the splits; "
        f"patients in both splits: {quality.patients_across}"
    )


if __name__ == "__main__":
    sys.exit(run_stage("preprocess", preprocess))
