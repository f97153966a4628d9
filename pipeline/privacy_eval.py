"""Stage privacy_eval: test whether generated images copy the images used for training."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.stage import Stage, run_stage
from src.common.files import write_file
from src.common.logging import logger
from src.common.outputs import write_table
from src.common.paths import HOME, PROJECT
from src.common.progress import Progress
from src.common.rng import Stream, integer_seed
from src.config.privacy import PrivacySettings
from src.data.classes import CLASSES
from src.data.dataset import ImageSet, test_sets, train_sets
from src.data.grids import png, tile
from src.metrics.extractors import choose_extractor
from src.models.io import load_generators
from src.models.sampling import generate
from src.privacy.attack import Attack
from src.privacy.copy_filter import PIXELS, make_spaces
from src.privacy.copy_test import SpaceFindings, closest, find_copies
from src.privacy.neighbours import Nearest
from src.privacy.perturbations import PERTURBATIONS
from src.privacy.verdict import judge_copying, shared_level


def privacy_eval(stage: Stage) -> None:
    """Test each generator for copies; write reports/privacy and the metrics."""
    settings = stage.settings.privacy
    device = stage.device()
    generators = load_generators(device)
    train, held_out = train_sets(), test_sets()
    extractor, _ = choose_extractor(stage.settings.fid, HOME, lambda: train, device)
    fixed_count = settings.generated_images + len(PERTURBATIONS) * settings.control_images
    folder = PROJECT / "reports" / "privacy"
    tables = []
    metrics: dict[str, Any] = {}
    for number, (label, generator) in enumerate(generators.items()):
        # Test the same images for copies in each space.
        seed = integer_seed(Stream.COPY_TEST_GENERATED, settings.seed, number)
        generated = generate(generator, seed, settings.generated_images)
        findings: dict[str, SpaceFindings] = {}
        logger.info(f"{label}: looking for copies of {len(train[label])} images")
        compared = min(held_out[label].patients.count, settings.generated_images)
        total = len(train[label]) + compared + fixed_count
        with Progress(f"features for {label}", total, "images") as shown:
            spaces = make_spaces(extractor, stage.settings.fid.batch_size, device, shown.advance)
            level = shared_level(settings, len(spaces))
            for name, make_space in spaces.items():
                findings[name] = find_copies(
                    train[label], held_out[label], generated, make_space, settings, level, number
                )

        # Write the findings of the class.
        verdict = judge_copying(findings, settings)
        tables.append(_table(label, findings))
        pairs = _closest_pairs(findings[PIXELS], train[label], held_out[label], generated, settings)
        write_file(folder / f"closest_{label.lower()}.png", png(pairs))
        metrics[label] = {
            "verdict": verdict.kind,
            "sentence": verdict.sentence,
            "spaces": {name: _numbers(part) for name, part in findings.items()},
        }
        logger.info(f"{label}: {verdict.sentence}")
    write_table(folder / "nearest.csv", pd.concat(tables))
    stage.write_metrics("privacy", metrics, _for_mlflow(metrics))
    for label in CLASSES:
        stage.run.set_tag(f"privacy.{label.lower()}", metrics[label]["verdict"])
    stage.run.log_file(folder / "nearest.csv", "privacy")


def _table(label: str, findings: Mapping[str, SpaceFindings]) -> pd.DataFrame:
    """Tabulate the ratio of every compared image, and whether it is within ``max_distance``."""
    parts = []
    for space, part in findings.items():
        sets: dict[str, Nearest] = {
            "train": part.train,
            "held_out": part.held_out,
            "generated": part.generated,
            **part.perturbed,
        }
        parts += [
            pd.DataFrame(
                {
                    "class": label,
                    "space": space,
                    "set": name,
                    "ratio": nearest.ratio,
                    "within_reach": nearest.distance <= part.thresholds.max_distance,
                }
            )
            for name, nearest in sets.items()
        ]
    return pd.concat(parts)


def _closest_pairs(
    findings: SpaceFindings,
    train: ImageSet,
    held_out: ImageSet,
    generated: NDArray[np.uint8],
    settings: PrivacySettings,
) -> NDArray[np.uint8]:
    """Draw a grid: generated images, their nearest train images, held-out images, and theirs."""
    rows = []
    for images, nearest in (
        (generated, findings.generated),
        (held_out.images[findings.held_out_rows], findings.held_out),
    ):
        chosen = closest(nearest, findings.thresholds.max_distance, settings.shown_pairs)
        for part in (images[chosen], train.images[nearest.index[chosen]]):
            missing = settings.shown_pairs - len(part)
            rows.append(np.pad(part, ((0, missing), (0, 0), (0, 0))))
    return tile(np.concatenate(rows), settings.shown_pairs)


def _for_mlflow(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that MLflow shows, by class."""
    return {
        f"{label}/{what} in {space}": value
        for label, part in metrics.items()
        for space, numbers in part["spaces"].items()
        for what, value in (
            ("near", numbers["caught"]["generated"]["share"]),
            ("held-out near", numbers["caught"]["held_out"]["share"]),
            ("attack", numbers["attack"]["auc"]),
        )
    }


def _numbers(findings: SpaceFindings) -> dict[str, Any]:
    """Return the findings in one space under the keys of the metrics file."""
    return {
        "threshold": findings.thresholds.max_ratio,
        "reach": findings.thresholds.max_distance,
        "caught": {
            name: {
                "images": part.images,
                "below": part.near_images,
                "share": part.share,
                "p": part.p_value,
            }
            for name, part in findings.results.items()
        },
        "detectable": {
            name: share for name, share in findings.detectable.items() if share is not None
        },
        "median_ratio": {
            "train": float(np.median(findings.train.ratio)),
            "held_out": float(np.median(findings.held_out.ratio)),
            "generated": float(np.median(findings.generated.ratio)),
        },
        "train_images_copied": findings.copied,
        "distinct_images": findings.distinct,
        "authentic": dict(findings.authentic),
        **({} if findings.c_t is None else {"c_t": findings.c_t}),
        **({} if findings.c_t_control is None else {"c_t_control": findings.c_t_control}),
        "attack": _attack(findings.attack),
        "attack_control": _attack(findings.attack_control),
    }


def _attack(attack: Attack) -> dict[str, float]:
    """Return the result of an attack under the keys of the metrics file."""
    return {
        "auc": attack.auc,
        "low": attack.interval.low,
        "high": attack.interval.high,
        "members": attack.members,
        "others": attack.others,
    }


if __name__ == "__main__":
    sys.exit(run_stage("privacy_eval", privacy_eval))
