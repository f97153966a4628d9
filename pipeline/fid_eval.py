"""Stage fid_eval: the Fréchet distances of real and generated images, and the verdict."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.extractor import stage_extractor
from pipeline.generators import load_generators, new_images
from pipeline.stage import Stage, run_stage
from src.common.devices import choose_device
from src.common.logging import logger
from src.common.outputs import write_table
from src.common.paths import PROJECT
from src.common.progress import progress
from src.config.fid import FidSettings
from src.data.classes import CLASSES
from src.data.dataset import test_split, train_split
from src.data.download import cache_folder
from src.data.patients import Patients
from src.metrics.features import FeatureCache, FeatureExtractor, extract_features
from src.metrics.hypothesis import judge
from src.metrics.protocol import RealFeatures, compare_sets, describe, rows_to_draw
from src.metrics.scores import JudgedSet, class_scores
from src.models.networks import Generator

NOISE = 20  # stream of randomness of the generated images


def fid_eval(stage: Stage) -> None:
    """Write reports/fid and the metrics."""
    settings = stage.settings.fid
    device = choose_device(stage.settings.compute.device)
    labels = dict(zip(("RN", "RP"), CLASSES, strict=True))
    test = {name: test_split(label) for name, label in labels.items()}
    patients = {name: Patients.named(whose) for name, (_, whose) in test.items()}
    drawn = rows_to_draw(patients, settings.iterations, settings.sample_size, settings.seed)
    generators = load_generators(device)
    extractor, known = stage_extractor(stage, device)
    real = {
        name: RealFeatures(
            patients[name],
            drawn[name],
            extract_features(
                extractor,
                test[name][0],
                settings.batch_size,
                device,
                drawn[name],
            ),
        )
        for name in labels
    }

    def fake(name: str, iteration: int) -> NDArray[np.float32]:
        number = ("FN", "FP").index(name)
        images = _new_images(
            generators[number], settings, number, iteration, device, settings.sample_size
        )
        return extract_features(extractor, images, settings.batch_size, device)

    scores = _scores(
        {labels[name]: test[name] for name in labels}, extractor, settings, device, generators
    )
    draws = compare_sets(real, fake, settings.iterations, settings.sample_size, settings.seed)
    rows: list[dict[str, object]] = []
    for part in progress(draws, "comparing draws", settings.iterations, "draws"):
        rows += part
    distances = pd.DataFrame(rows)
    description = describe(distances)
    verdict = judge(distances)

    folder = PROJECT / "reports" / "fid"
    write_table(folder / "distances.csv", distances)
    write_table(folder / "describe.csv", description, index=True)
    write_table(folder / "scores.csv", scores)
    stage.write_metrics(
        "fid",
        {
            "extractor": {
                "name": extractor.name,
                "dims": extractor.dims,
                "fingerprint": extractor.fingerprint,
                **known,
            },
            "verdict": asdict(verdict),
            "pairs": {
                str(pair): {key: _plain(row[key]) for key in ("n", "mean", "std", "relative")}
                for pair, row in description.to_dict("index").items()
            },
            "scores": {
                label: {row["metric"]: _known(row) for row in part.to_dict("records")}
                for label, part in scores.groupby("class", sort=False)
            },
        },
        {f"distance/{pair}": float(mean) for pair, mean in description["mean"].items()}
        | {f"{row['class']}/{row['metric']}": row["value"] for row in scores.to_dict("records")}
        | {"support": verdict.share},
    )
    stage.run.log_table("fid/describe.json", description.reset_index())
    stage.run.log_table("fid/scores.json", scores)
    stage.run.log_file(folder / "distances.csv", "fid")
    logger.info(verdict.sentence())


def _scores(
    splits: Mapping[str, tuple[NDArray[np.uint8], list[str]]],
    extractor: FeatureExtractor,
    settings: FidSettings,
    device: torch.device,
    generators: list[Generator],
) -> pd.DataFrame:
    """Every score of each class's test split, images and patients, against as many generated."""
    cache = FeatureCache(cache_folder() / "features")

    def real(images: NDArray[np.uint8], whose: list[str], split: str, most: int) -> JudgedSet:
        order = np.random.default_rng([settings.seed, *split.encode()]).permutation(len(images))
        rows = np.sort(order[:most])
        features = cache.features(extractor, images, settings.batch_size, device, rows)
        return JudgedSet(features, Patients.named(whose).of(rows))

    test = {label: real(*splits[label], "test", settings.scores.max_images) for label in CLASSES}
    train = {label: real(*train_split(label), "train", len(test[label])) for label in CLASSES}
    generated = {}
    for number, (label, generator) in enumerate(zip(CLASSES, generators, strict=True)):
        images = _new_images(
            generator, settings, number, settings.iterations, device, len(test[label])
        )
        features = extract_features(extractor, images, settings.batch_size, device)
        generated[label] = JudgedSet.of_strangers(features)
    return class_scores(
        test,
        train,
        generated,
        settings.scores.nearest_k,
        settings.scores.resamples,
        settings.seed,
    )


def _new_images(
    generator: Generator,
    settings: FidSettings,
    number: int,
    draw: int,
    device: torch.device,
    count: int,
) -> NDArray[np.uint8]:
    """The generated images of one draw; the class's number and the draw's name their noise."""
    return new_images(generator, count, device, settings.seed, NOISE, number, draw)


def _known(row: dict[str, Any]) -> dict[str, int | float]:
    """The numbers of a row of scores that are there."""
    return {
        key: _plain(value)
        for key, value in row.items()
        if key not in ("class", "metric") and pd.notna(value)
    }


def _plain(value: Any) -> int | float:
    """A number of pandas or NumPy as Python's own."""
    return int(value) if isinstance(value, int | np.integer) else float(value)


if __name__ == "__main__":
    sys.exit(run_stage("fid_eval", fid_eval))
