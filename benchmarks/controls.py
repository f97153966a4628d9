"""Which score notices which fault of generated images: docs/results/controls.md.

`python -m benchmarks.controls` draws phantoms and trains the demo's classifier;
`python -m benchmarks.controls --archive FILE --weights FILE` takes the real archive's NORMAL images
and the FID network. Either replaces its rows in reports/benchmarks/controls.csv and draws
docs/images/controls.png and the page. Features of real images take 15 minutes on two quiet cores
and stay in the cache.

Two draws of train images have no patient in common. One of them gets a fault in rising doses. Over
20 pairs the mean of a score must rise with each dose. It notices a dose if the mean of the paired
differences from the untouched draw is above two standard errors.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.workspace import ROOT
from src.common.errors import report_errors
from src.common.files import write_file
from src.common.outputs import write_table
from src.config.settings import Settings, load_settings
from src.data.classes import CLASSES
from src.data.dataset import ImageSet
from src.data.download import cache_folder
from src.data.patients import Indices, Patients
from src.data.preprocess import preprocess_images
from src.data.sources import collect_images
from src.data.tables import read_rows
from src.metrics import controls
from src.metrics.classifier import train_classifier
from src.metrics.features import FeatureCache, extract_features
from src.metrics.frechet import FeatureSet, frechet_distance
from src.metrics.inception import LAST_LAYER, load_inception
from src.metrics.kid_prdc import Comparison
from src.metrics.mmd import mean_gaussian_kernel, mmd
from src.metrics.thumbnails import thumbnails
from src.report.figures import STYLE, as_png

CPU = torch.device("cpu")
RESULT = ROOT / "reports" / "benchmarks" / "controls.csv"
FIGURE = ROOT / "docs" / "images" / "controls.png"
SIZES = (115, 250)  # images of each draw, as in a search
PAGE = ROOT / "docs" / "results" / "controls.md"
DRAWS = 20
POOL = 520  # images at most that have variants, which share their mean image and mean exposure
CHUNK = 40  # images whose features stay in the cache together
PHANTOMS = 1341  # of each class, as many as the real archive has of NORMAL
NOISE_IMAGES = 50
CLUSTERS = 8
THUMBNAILS = "thumbnails"  # a space beside the features
STEERS = "MMD"  # of both, which steers the search
SHOWN = ("768 features", "classifier")  # in the figure
# Doses of each fault, rising.
SHRINKAGE = (0.1, 0.2, 0.3, 0.4, 0.5)  # share of the spread that is taken away
DOSES: Mapping[str, tuple[float, ...]] = {
    "features shrunk": SHRINKAGE,
    "blended with mean": SHRINKAGE,
    "one exposure": (0.25, 0.5, 1.0),  # share of the way
    "blurred": (0.5, 1.0, 2.0),  # pixels
    "clusters left out": (0.25, 0.5, 0.75),  # share
    "noise images": (0.05, 0.1, 0.2),  # share
}
IMAGE_FAULTS: Mapping[str, Callable[[NDArray[np.uint8], float], NDArray[np.uint8]]] = {
    "blended with mean": lambda images, dose: controls.blend_with_mean(images, 1 - dose),
    "one exposure": controls.equalize_exposure,
    "blurred": controls.blur,
}
Spaces = Mapping[str, NDArray[np.float64]]  # (n, d) by the name of the space
Extract = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Pool:
    """Images to draw from, and their variants, in every space."""

    patients: Patients  # of all images
    variant_count: int  # images that have variants, the first ones
    untouched: Spaces  # of all images
    variants: Mapping[tuple[str, float], Spaces]
    noise: Spaces

    @classmethod
    def of(cls, images: ImageSet, variant_count: int, extract: Extract) -> "Pool":
        """Extract the features of a set's images and of the variants of some of them."""
        rows = images.patients.draw(len(images), np.random.default_rng(0))  # in random order
        ordered = images.images[rows]

        def spaces(part: NDArray[np.uint8]) -> Spaces:
            extracted = {**extract(part), THUMBNAILS: thumbnails(part)}
            return {name: values.astype(np.float64) for name, values in extracted.items()}

        shape = (NOISE_IMAGES, *ordered.shape[1:])
        noise = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
        variants = {
            (fault, dose): spaces(perturb(ordered[:POOL], dose)[:variant_count])
            for fault, perturb in IMAGE_FAULTS.items()
            for dose in DOSES[fault]
        }
        patients = images.patients.take(rows)
        return cls(patients, variant_count, spaces(ordered), variants, spaces(noise))

    @property
    def drawable(self) -> Patients:
        """Patients of the images that have variants."""
        return self.patients.take(np.arange(self.variant_count))

    def faults(
        self, real: Indices, drawn: Indices, rng: np.random.Generator
    ) -> Iterator[tuple[str, float, Spaces, Spaces]]:
        """Yield each fault and dose: of a draw, and of all images but those of ``real``'s patients.

        Dose 0 is untouched. Draws of images without variants have no faults of images.
        """
        side = np.flatnonzero(~np.isin(self.patients.ids, self.patients.ids[real]))
        varied = side[side < self.variant_count]
        kept = self._without_clusters(side, drawn, rng)
        for fault, doses in DOSES.items():
            if fault in IMAGE_FAULTS and drawn.max() >= self.variant_count:
                continue
            rest = varied if fault in IMAGE_FAULTS else side
            yield fault, 0.0, _take(self.untouched, drawn), _take(self.untouched, rest)
            for dose in doses:
                rows = kept[dose] if fault == "clusters left out" else (drawn, rest)
                few, many = (self._faulty(fault, dose, part, drawn) for part in rows)
                yield fault, dose, few, many

    def _faulty(self, fault: str, dose: float, rows: Indices, drawn: Indices) -> Spaces:
        """Return the images at some rows with a fault that needs no choice of rows."""
        if fault in IMAGE_FAULTS:
            return _take(self.variants[fault, dose], rows)
        faulty = _take(self.untouched, rows)
        if fault == "features shrunk":
            return {name: controls.shrink(part, 1 - dose) for name, part in faulty.items()}
        if fault == "noise images":  # larger doses replace further images
            rng = np.random.default_rng(int(drawn[0]))
            replaced, noise = rng.permutation(len(rows)), rng.integers(NOISE_IMAGES, size=len(rows))
            chosen = replaced[: round(dose * len(rows))]
            for name, part in faulty.items():
                part[chosen] = self.noise[name][noise[chosen]]
        return faulty

    def _without_clusters(
        self, side: Indices, drawn: Indices, rng: np.random.Generator
    ) -> dict[float, tuple[Indices, Indices]]:
        """Leave random clusters out: of a draw, filled up from the side, and of the whole side."""
        doses, size = DOSES["clusters left out"], len(drawn)
        fewest = CLUSTERS - round(doses[-1] * CLUSTERS)
        for _ in range(1000):  # until the last clusters have enough images
            labels = controls.cluster(self.untouched[THUMBNAILS][side], CLUSTERS, rng)
            order = rng.permutation(CLUSTERS)
            if np.isin(labels, order[-fewest:]).sum() >= size:
                break
        else:
            raise ValueError(f"no {fewest} clusters have {size} images")
        kept = {}
        for dose in doses:
            rest = side[~np.isin(labels, order[: round(dose * CLUSTERS)])]
            own = np.intersect1d(rest, drawn)
            others = rng.permutation(np.setdiff1d(rest, drawn))
            kept[dose] = np.concatenate([own, others[: size - len(own)]]), rest
        return kept


def _take(spaces: Spaces, rows: Indices) -> dict[str, NDArray[np.float64]]:
    """Select images by their rows in every space."""
    return {name: part[rows] for name, part in spaces.items()}


def score(real: Spaces, few: Spaces, many: Spaces) -> dict[str, float]:
    """Compute the candidates for the score that steers, by name.

    Args:
        real: the untouched draw.
        few: as many images with a fault.
        many: more images with the same fault.
    """
    scores: dict[str, float] = {}
    small = real[THUMBNAILS], few[THUMBNAILS]
    for name in real.keys() - {THUMBNAILS}:
        both = Comparison(real[name], few[name], 1, small)
        scores |= {
            f"Fréchet distance, {name}": both.score("frechet"),
            f"Fréchet distance, {name}, more generated": frechet_distance(
                FeatureSet(real[name]), FeatureSet(many[name])
            ),
            f"KID, {name}": both.score("kid"),
            f"Gaussian MMD, {name} alone": mmd(*mean_gaussian_kernel([both.squares])),
            f"{STEERS}, {name}": both.score("mmd"),
        }
    squares = Comparison(*small, 1).squares
    return scores | {f"Gaussian MMD, {THUMBNAILS} alone": mmd(*mean_gaussian_kernel([squares]))}


def measure(pool: Pool, sizes: Sequence[int], draws: int) -> pd.DataFrame:
    """Score every draw with every fault: columns images, draw, fault, dose, score, value."""
    rows: list[dict[str, object]] = []
    for size in sizes:
        rng = np.random.default_rng(size)
        patients = pool.drawable if size <= pool.drawable.max_pair_size else pool.patients
        for draw in range(draws):
            real, drawn = patients.disjoint_pair(size, rng)
            untouched = _take(pool.untouched, real)
            for fault, dose, few, many in pool.faults(real, drawn, rng):
                rows += [
                    {"images": size, "draw": draw, "fault": fault, "dose": dose}
                    | {"score": name, "value": value}
                    for name, value in score(untouched, few, many).items()
                ]
    return pd.DataFrame(rows)


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Aggregate the draws of ``measure``.

    Returns:
        a row for each size, score, fault and dose. Columns: mean over the draws; difference, the
        mean of paired differences from the untouched draw; standard_error of that; is_noticed,
        whether the difference is above two standard errors; is_rising, whether the mean is above
        that of the dose before; and spread, the standard deviation of the untouched score.
    """
    rows = []
    for key, part in table.groupby(["images", "score", "fault"], sort=False):
        values = part.pivot(index="draw", columns="dose", values="value")
        means = values.mean()
        for before, dose in zip([None, *values.columns], values.columns, strict=False):
            differences = values[dose] - values[0.0]
            error = float(differences.std(ddof=1) / np.sqrt(len(values)))
            rows.append(
                dict(zip(("images", "score", "fault"), key, strict=True))
                | {
                    "dose": dose,
                    "mean": means[dose],
                    "difference": differences.mean(),
                    "standard_error": error,
                    "is_noticed": bool(differences.mean() > 2 * error),
                    "is_rising": before is None or bool(means[dose] > means[before]),
                    "spread": values[0.0].std(ddof=1),
                }
            )
    return pd.DataFrame(rows)


def verdicts(summary: pd.DataFrame) -> pd.DataFrame:
    """Make a table of scores and faults: the dose from which on all are noticed, or none.

    "falls" says that the mean falls with some dose.
    """

    def verdict(part: pd.DataFrame) -> str:
        doses = part[part["dose"] > 0]
        noticed = [
            row["dose"] for index, row in doses.iterrows() if doses.loc[index:, "is_noticed"].all()
        ]
        first = f"{noticed[0]:g}" if noticed else "none"
        return first if part["is_rising"].all() else f"{first}, falls"

    cells = {key: verdict(part) for key, part in summary.groupby(["score", "fault"], sort=False)}
    table = pd.Series(cells).unstack()
    return table.loc[sorted(table.index), [fault for fault in DOSES if fault in table]]


class InceptionTaps:
    """The FID network's features of several layers at once, side by side."""

    name = "inception"
    widths = (64, 192, 768)
    dims = sum(widths)

    def __init__(self, weights: Path) -> None:
        self._network = load_inception(weights, max(self.widths), CPU)
        self.fingerprint = f"{self._network.fingerprint} {self.widths}"
        self._taps: dict[int, Tensor] = {}
        layers = dict(self._network.named_children())
        for width in self.widths:
            layers[LAST_LAYER[width]].register_forward_hook(
                lambda module, inputs, output, width=width: self._taps.update({width: output})
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, 1024), of uint8 images (n, h, w)."""
        self._network(images)
        return torch.cat([self._taps[width].mean(dim=(2, 3)) for width in self.widths], dim=1)

    def extract(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """Compute the features of each layer by its name, or take them from the cache."""
        cache = FeatureCache(cache_folder() / "features")
        parts = [
            cache.features(self, images[start : start + CHUNK], CHUNK, CPU)
            for start in range(0, len(images), CHUNK)
        ]
        ends = np.cumsum(self.widths)[:-1]
        layers = np.split(np.concatenate(parts), ends, axis=1)
        return {f"{width} features": part for width, part in zip(self.widths, layers, strict=True)}


def train_images(settings: Settings) -> dict[str, ImageSet]:
    """Collect and prepare the train images that the parameters name."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        table = pd.DataFrame(asdict(row) for row in collect_images(settings.data, ROOT, folder))
        table.to_csv(folder / "images.csv", index=False)
        (folder / "out").mkdir()
        preprocess_images(folder / "images.csv", folder, settings.preprocess, folder / "out")
        patients: dict[str, list[str]] = {label: [] for label in CLASSES}
        for row in read_rows(folder / "out" / "table.csv"):
            if row["split"] == "train":
                patients[row["label"].upper()].append(row["patient"])
        return {
            label: ImageSet.of_class(
                np.load(folder / "out" / label.lower() / "train.npy"),
                label,
                Patients.from_names(names),
            )
            for label, names in patients.items()
        }


def demo_classifier(settings: Settings) -> Extract:
    """Train the demo's classifier, and return what extracts its features."""
    fid = settings.fid
    trained = train_classifier(train_images(settings), fid.classifier, fid.dims, fid.seed, CPU)

    def extract(images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        return {"classifier": extract_features(trained.extractor, images, fid.batch_size, CPU)}

    return extract


TEXT = """# Results: controls of the scores

Made by `python -m benchmarks.controls`. Which score notices which fault of generated images, and
which one rewards it? Two draws of real train images have no patient in common. One of them gets a
fault in rising doses, 20 times. The mean of a good score rises with each dose.

- *features shrunk*, *blended with mean*: share of the spread that is taken away, in features and
  thumbnails, or in pixels
- *one exposure*: share of the way of each image's mean and contrast to those of the set
- *blurred*: standard deviation of the Gaussian, in pixels of images of 64
- *clusters left out*: share of 8 clusters of thumbnails (k-means), filled up with other images
- *noise images*: share of the images that are replaced by noise

A cell has the dose from which on the score notices the fault: the mean of the paired differences
is above two standard errors. **Falls** says that the mean falls with some dose, so that a search
could gain by the fault. A table without some fault was made with `--pool 280`: two draws of 250
images need more images with variants.

**MMD** (features and thumbnails) steers the [search](../howto/search.md). The Fréchet distance is
for comparison with the literature. "More generated" compares all images of the other patients, not
as many as real ones. Why the scores differ:
[Floor and excess](../explanation/floor-and-excess.md#what-steers-the-search).

![Difference of each score from the untouched draw, against the dose](../images/controls.png)

The figure shows the mean difference from the untouched draw, in standard deviations of the
untouched score over draws of 115 images. Below 0 the score rewards the fault. Of Inception it shows
768 features.

- The Fréchet distance with 768 features rewards a shrunk spread. Fewer features see it from 20 %
  on; more generated images do not help.
- KID hardly notices a shrunk spread: at half of it by 1.4 standard deviations, MMD by 20.
- 768 features hardly see exposure, whichever score compares them. Thumbnails do.
- Thumbnails hardly see blur. Features do.
- MMD of both sees every fault, and rises with each dose.

"""


def draw_figure(table: pd.DataFrame) -> bytes:
    """Draw the difference of each score against the dose, as a PNG file; a row for each data."""
    with mpl.rc_context(STYLE):
        data = list(dict.fromkeys(table["data"]))
        figure = Figure(figsize=(15, 3 * len(data) + 0.5), layout="constrained")
        axes = figure.subplots(len(data), len(DOSES), sharey=True, squeeze=False)
        for name, row in zip(data, axes, strict=True):
            part = table[(table["data"] == name) & (table["images"] == SIZES[0])]
            for fault, ax in zip(DOSES, row, strict=True):
                for shown, lines in part[part["fault"] == fault].groupby("score", sort=False):
                    kind, _, features = str(shown).partition(", ")
                    space = features.removesuffix(" alone")
                    if space not in (*SHOWN, THUMBNAILS):
                        continue
                    if space != features:
                        kind += f", {'features' if space in SHOWN else space} alone"
                    height = lines["difference"] / lines["spread"]
                    width = 2.6 if kind == STEERS else 1.2
                    ax.plot(lines["dose"], height, ".-", label=kind, linewidth=width)
                ax.axhline(0, color="black", linewidth=0.8)
                ax.set_yscale("symlog")
            row[0].set_ylabel(f"{name}\ndifference / standard deviation")
        for fault, ax in zip(DOSES, axes[0], strict=True):
            ax.set_title(fault)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        return as_png(figure)


def write_page(table: pd.DataFrame) -> None:
    """Write the page with a table for each data and number of images."""
    text = TEXT
    for (data, images), part in table.groupby(["data", "images"], sort=False):
        cells = verdicts(part)
        text += f"## {data}, {images} images\n\n"
        text += (
            "| score | " + " | ".join(cells.columns) + " |\n" + "|---" * (len(cells.columns) + 1)
        )
        text += "|\n"
        for name, row in cells.iterrows():
            shown = f"**{name}**" if str(name).startswith(STEERS) else name
            values = (str(value).replace("falls", "**falls**") for value in row)
            text += f"| {shown} | " + " | ".join(values) + " |\n"
        text += "\n"
    write_file(PAGE, text.rstrip() + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controls", description=__doc__)
    parser.add_argument("--archive", type=Path, help="of the real images; else phantoms are drawn")
    parser.add_argument("--weights", type=Path, help="of the FID network, for real images")
    parser.add_argument("--pool", type=int, default=POOL, help="images that have variants")
    arguments = parser.parse_args(argv)
    return report_errors(lambda: run(arguments.archive, arguments.weights, arguments.pool))


def run(archive: Path | None, weights: Path, variant_count: int) -> None:
    """Measure phantoms, or the images of an archive, and write table, figure and page."""
    # Prepare the images and the extractor.
    params = ROOT / "params.yaml"
    if archive is None:
        data, extract = "Phantoms, demo's classifier", demo_classifier(load_settings(params))
        changes = [f"data.phantom.train_per_class={PHANTOMS}", "data.phantom.seed=7"]
    else:
        data, extract = "Real NORMAL images, Inception", InceptionTaps(weights).extract
        changes = ["data.source=kermany", f"data.path={archive}"]
    images = train_images(load_settings(params, changes))["NORMAL"]

    # Measure, and replace the rows of these data.
    new = summarize(measure(Pool.of(images, variant_count, extract), SIZES, DRAWS))
    new.insert(0, "data", data)
    old = pd.read_csv(RESULT) if RESULT.is_file() else new[:0]
    numbers = ["mean", "difference", "standard_error", "spread"]
    new[numbers] = new[numbers].map(lambda value: float(f"{value:.5g}"))
    table = pd.concat([old[old["data"] != data], new], ignore_index=True)
    table = table.sort_values("data", kind="stable")
    write_table(RESULT, table)
    write_file(FIGURE, draw_figure(table))
    write_page(table)


if __name__ == "__main__":
    sys.exit(main())
