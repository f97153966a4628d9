"""Stage fetch: from phantoms, an archive or a download to image files and their table.

`python -m pipeline.fetch --checksum PATH` prints the value of data.sha256 for an archive or folder.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.stage import HOME, PROJECT, Stage, report_errors, run_stage
from src.data.classes import CLASSES, SPLITS
from src.data.sources import collect_images
from src.files import folder_in_place_of, sha256_of_file, sha256_of_path, write_atomic
from src.progress import say


def fetch(stage: Stage) -> None:
    """Write data/images, data/images.csv and the metrics."""
    settings = stage.settings.data
    with folder_in_place_of(PROJECT / "data" / "images") as folder:
        table = collect_images(settings, HOME, folder)
    path = PROJECT / "data" / "images.csv"
    write_atomic(path, table.to_csv(index=False, lineterminator="\n"))
    counts = table.groupby(["split", "label"]).size()
    patients = table.groupby(["split", "label"])["patient"].nunique()
    checksum = sha256_of_file(path)
    stage.run.set_tag("data.sha256", checksum)
    stage.write_metrics(
        "fetch",
        {
            "source": settings.source,
            "data_sha256": checksum,
            "images": {s: {c: int(counts[s, c]) for c in CLASSES} for s in SPLITS},
            "patients": {s: {c: int(patients[s, c]) for c in CLASSES} for s in SPLITS},
        },
    )
    stage.run.log_file(path)
    say(f"{len(table)} images of {len(CLASSES)} classes in data/images")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage, or print a checksum."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.fetch", description=__doc__)
    parser.add_argument("--checksum", metavar="PATH", type=Path, help="print its checksum")
    arguments = parser.parse_args(argv)
    if arguments.checksum is not None:
        return report_errors(lambda: print(sha256_of_path(arguments.checksum)))
    return run_stage("fetch", fetch)


if __name__ == "__main__":
    sys.exit(main())
