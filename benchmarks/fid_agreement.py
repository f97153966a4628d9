"""How well scores and features agree with their published formulas: docs/results/agreement.md.

`python -m benchmarks.fid_agreement [--weights FILE]`; the file holds the FID network's weights,
else they are downloaded once.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.evaluation import sets
from benchmarks.plain_evaluation import (
    plain_balls,
    plain_frechet,
    plain_inception,
    plain_kid,
    plain_mmd,
)
from benchmarks.workspace import ROOT
from src.common.errors import report_errors
from src.common.files import write_file
from src.config.registry import METRICS
from src.data.download import download_inception
from src.metrics.inception import load_inception
from src.metrics.kid_prdc import Comparison
from src.metrics.thumbnails import THUMBNAIL_PIXELS

RESULT = ROOT / "docs" / "results" / "agreement.md"
K = 5
SIZES = ((100, 100, 64), (200, 150, 64), (100, 100, 256), (90, 70, 768))
DIMS = (64, 192, 768)
HEADER = """# Agreement with the published formulas

Made by `python -m benchmarks.fid_agreement`. The references are written term by term, apart from
the library (`benchmarks/plain_evaluation.py`): the Fréchet distance with scipy's matrix square root
in float64, MMD and KID as their double sums, precision, recall, density and coverage point by
point, and the FID network as a function of its weights in torch's default layout. The thumbnails
of MMD are the first 64 features. For features the norms are shown, and the difference is the norm
of the difference. With fewer images than features the square root is of a singular matrix, and
itself exact to about 1e-7 only.

| what | images | features | here | reference | relative difference |
|---|---|---|---|---|---|
"""
Row = tuple[str, str, int, float, float, float]


def scores() -> Iterator[Row]:
    """Each score of several pairs of sets."""
    for n, m, width in SIZES:
        x, y = sets((n, m), width, seed=1)
        y = 1.1 * y
        small = x[:, :THUMBNAIL_PIXELS], y[:, :THUMBNAIL_PIXELS]
        comparison = Comparison(x, y, K, small)
        expected: dict[str, float] = {
            "mmd": plain_mmd([(x, y), small]),
            "frechet": plain_frechet(x, y),
            "kid": plain_kid(x, y),
        }
        balls = plain_balls(x, y, K)
        for metric, entry in METRICS.items():
            reference = expected[metric] if metric in expected else balls[metric]
            ours = comparison.score(metric)
            difference = abs(ours - reference) / (abs(reference) or 1)
            yield entry.words, f"{n}, {m}", width, ours, reference, difference


@torch.no_grad()
def features(path: Path) -> Iterator[Row]:
    """The features of random images."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (8, 64, 64), dtype=np.uint8))
    for dims in DIMS:
        found = load_inception(path, dims, torch.device("cpu"))(images)
        expected = plain_inception(weights, images, dims)
        ours, reference = float(found.norm()), float(expected.norm())
        difference = float((found - expected).norm()) / reference
        yield "features", "8", dims, ours, reference, difference


def write(path: Path) -> None:
    """Compare, print and write the table."""
    rows = []
    for name, images, width, ours, reference, difference in (*scores(), *features(path)):
        cells = (name, images, str(width), f"{ours:.8g}", f"{reference:.8g}", f"{difference:.1e}")
        rows.append("| " + " | ".join(cells) + " |")
    write_file(RESULT, HEADER + "\n".join(rows) + "\n")
    print("\n".join(rows))
    print(f"written to {RESULT.relative_to(ROOT)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fid_agreement", description=__doc__)
    parser.add_argument("--weights", type=Path)
    arguments = parser.parse_args(argv)
    return report_errors(lambda: write(arguments.weights or download_inception()))


if __name__ == "__main__":
    sys.exit(main())
