"""Stage fid_eval: Fréchet distances of real and generated images, and the hypothesis test."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.stage import Stage, run_stage
from src.common.logging import logger
from src.common.outputs import write_table
from src.common.paths import HOME, PROJECT
from src.common.progress import progress
from src.common.rng import Stream, integer_seed, numpy_stream
from src.config.fid import FidSettings
from src.data.classes import CLASSES, SPLITS
from src.data.dataset import ImageSet, test_sets, train_sets
from src.data.download import cache_folder
from src.data.patients import Indices
from src.metrics.extractors import choose_extractor
from src.metrics.features import FeatureCache, FeatureExtractor, extract_features
from src.metrics.hypothesis import HypothesisResult
from src.metrics.protocol import RealFeatures, compare_sets, describe, rows_to_draw
from src.metrics.scores import FeatureSample, class_scores
from src.metrics.thumbnails import thumbnails
from src.metrics.variety import MAX_IMAGES, score_variety
from src.metrics.verdict import judge_hypothesis
from src.models.io import load_generators
from src.models.networks import Generator
from src.models.sampling import generate

# The protocol's names of the sets of each class.
REAL = dict(zip(("RN", "RP"), CLASSES, strict=True))
GENERATED = dict(zip(("FN", "FP"), CLASSES, strict=True))
Rows = list[dict[str, object]]


def fid_eval(stage: Stage) -> None:
    """Score the generated images; write reports/fid and the metrics."""
    # Load the images, the generators and the extractor.
    settings = stage.settings.fid
    device = stage.device()
    test = test_sets()
    drawn = rows_to_draw(
        {name: test[label].patients for name, label in REAL.items()},
        settings.iterations,
        settings.sample_size,
        settings.seed,
    )
    generators = load_generators(device)
    extractor, info = choose_extractor(settings, HOME, train_sets, device)

    # Score the whole test split of each class, run the thesis's protocol, and judge.
    real, train, generated = _samples(test, generators, extractor, settings, device)
    scores = class_scores(
        real,
        train,
        generated,
        settings.scores.nearest_k,
        settings.scores.resamples,
        settings.seed,
    )
    variety = _variety(generators, extractor, settings, device)
    distances = _distances(test, drawn, generators, extractor, settings, device)
    description = describe(distances)
    samples = {name: real[label] for name, label in REAL.items()}
    samples |= {name: generated[label] for name, label in GENERATED.items()}
    hypothesis = judge_hypothesis(distances, samples, settings.scores.resamples, settings.seed)

    # Write the tables for DVC and log them.
    folder = PROJECT / "reports" / "fid"
    write_table(folder / "distances.csv", distances)
    write_table(folder / "describe.csv", description, index=True)
    write_table(folder / "scores.csv", scores)
    write_table(folder / "variety.csv", variety)
    about = {"name": extractor.name, "dims": extractor.dims, "fingerprint": extractor.fingerprint}
    stage.write_metrics(
        "fid",
        {
            "extractor": about | info,
            "verdict": hypothesis.as_record(),
            "pairs": {
                str(pair): {key: _plain(row[key]) for key in ("n", "mean", "std", "relative")}
                for pair, row in description.to_dict("index").items()
            },
            "scores": _by_class(scores, "metric"),
            "variety": _by_class(variety, "measure"),
        },
        _for_mlflow(description, scores, variety, hypothesis),
    )
    stage.run.set_tag("hypothesis", hypothesis.result)
    stage.run.log_table("fid/describe.json", description.reset_index())
    stage.run.log_table("fid/scores.json", scores)
    stage.run.log_table("fid/variety.json", variety)
    stage.run.log_file(folder / "distances.csv", "fid")
    logger.info(hypothesis.sentence())


def _for_mlflow(
    description: pd.DataFrame,
    scores: pd.DataFrame,
    variety: pd.DataFrame,
    hypothesis: HypothesisResult,
) -> dict[str, float]:
    """Return the numbers that MLflow plots, by section and name."""
    shown = {f"distance/{pair}": float(mean) for pair, mean in description["mean"].items()}
    shown |= {f"{row['class']}/{row['metric']}": row["value"] for row in scores.to_dict("records")}
    for row in variety.dropna(subset="value").to_dict("records"):
        shown[f"variety/{row['class']}/{row['measure']}"] = row["value"]
    for part in hypothesis.differences:
        shown[f"difference/{part.name}"] = part.value
        shown[f"difference_low/{part.name}"] = part.low
        shown[f"difference_high/{part.name}"] = part.high
    return shown | {"support": hypothesis.thesis.share}


def _distances(
    test: Mapping[str, ImageSet],
    drawn: Mapping[str, Indices],
    generators: Mapping[str, Generator],
    extractor: FeatureExtractor,
    settings: FidSettings,
    device: torch.device,
) -> pd.DataFrame:
    """Run the thesis's protocol: columns iteration, pair, distance and n."""

    def features(images: NDArray[np.uint8], rows: Indices | None = None) -> NDArray[np.float32]:
        return extract_features(extractor, images, settings.batch_size, device, rows)

    real = {
        name: RealFeatures(
            test[label].patients, drawn[name], features(test[label].images, drawn[name])
        )
        for name, label in REAL.items()
    }

    def fake(name: str, iteration: int) -> NDArray[np.float32]:
        label = GENERATED[name]
        number = CLASSES.index(label)
        seed = integer_seed(Stream.PROTOCOL_GENERATED, settings.seed, number, iteration)
        return features(generate(generators[label], seed, settings.sample_size))

    draws = compare_sets(real, fake, settings.iterations, settings.sample_size, settings.seed)
    rows: Rows = []
    for part in progress(draws, "comparing draws", settings.iterations, "draws"):
        rows += part
    return pd.DataFrame(rows)


def _samples(
    test: Mapping[str, ImageSet],
    generators: Mapping[str, Generator],
    extractor: FeatureExtractor,
    settings: FidSettings,
    device: torch.device,
) -> tuple[dict[str, FeatureSample], dict[str, FeatureSample], dict[str, FeatureSample]]:
    """Compute features of each class's test split, and of as many train and generated images."""
    cache = FeatureCache(cache_folder() / "features")

    def real(split: str, label: str, images: ImageSet, max_images: int) -> FeatureSample:
        indices = SPLITS.index(split), CLASSES.index(label)
        order = numpy_stream(Stream.SCORE_REAL, settings.seed, *indices).permutation(len(images))
        rows = np.sort(order[:max_images])
        features = cache.features(extractor, images.images, settings.batch_size, device, rows)
        return FeatureSample(features, images.patients.take(rows), thumbnails(images.images, rows))

    def generated(label: str, count: int) -> FeatureSample:
        number = CLASSES.index(label)
        seed = integer_seed(Stream.SCORE_GENERATED, settings.seed, number)
        images = generate(generators[label], seed, count)
        features = extract_features(extractor, images, settings.batch_size, device)
        return FeatureSample.of_singletons(features, thumbnails(images))

    test_samples = {
        label: real("test", label, part, settings.scores.max_images) for label, part in test.items()
    }
    return (
        test_samples,
        {
            label: real("train", label, part, len(test_samples[label]))
            for label, part in train_sets().items()
        },
        {label: generated(label, len(part)) for label, part in test_samples.items()},
    )


def _variety(
    generators: Mapping[str, Generator],
    extractor: FeatureExtractor,
    settings: FidSettings,
    device: torch.device,
) -> pd.DataFrame:
    """Compute the variety of as many generated images as each class has train images.

    They are ``MAX_IMAGES`` at most.
    """
    cache = FeatureCache(cache_folder() / "features")
    rows: Rows = []
    for number, (label, train) in enumerate(train_sets().items()):
        # Draw real and generated images.
        order = numpy_stream(Stream.VARIETY_REAL, settings.seed, number).permutation(len(train))
        real = train.take(np.sort(order[: min(settings.scores.max_images, MAX_IMAGES)]))
        seed = integer_seed(Stream.VARIETY_GENERATED, settings.seed, number)
        images = generate(generators[label], seed, len(real))
        # Compute their features and all measures.
        features = (
            FeatureSample(
                cache.features(extractor, real.images, settings.batch_size, device), real.patients
            ),
            FeatureSample.of_singletons(
                extract_features(extractor, images, settings.batch_size, device)
            ),
        )
        rows += [
            {"class": label, "measure": score.measure, **score.as_dict()}
            for score in score_variety(real.images, images, features, len(real), settings.seed)
        ]
    return pd.DataFrame(rows).astype({"range_n": "Int64"})


def _by_class(table: pd.DataFrame, name: str) -> dict[str, dict[str, dict[str, int | float]]]:
    """Return the numbers of a table by class and by the names in a column."""
    return {
        label: {row[name]: _available_numbers(row) for row in part.to_dict("records")}
        for label, part in table.groupby("class", sort=False)
    }


def _available_numbers(row: dict[str, Any]) -> dict[str, int | float]:
    """Return the numbers of a row, without the missing ones."""
    return {
        key: _plain(value)
        for key, value in row.items()
        if not isinstance(value, str) and pd.notna(value)
    }


def _plain(value: Any) -> int | float:
    """Convert a number of pandas or NumPy to a Python number."""
    return int(value) if isinstance(value, int | np.integer) else float(value)


if __name__ == "__main__":
    sys.exit(run_stage("fid_eval", fid_eval))
