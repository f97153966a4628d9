"""Stage privacy_eval: test whether generated images copy the images used for training.

With `privacy.membership` it also trains two generators of each class, on swapped halves of the
train patients, and attacks them.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.generators import train_generator
from pipeline.stage import Stage, run_stage
from src.common.files import write_file
from src.common.logging import logger
from src.common.outputs import write_table
from src.common.paths import HOME, PROJECT
from src.common.progress import Progress
from src.common.rng import Stream, integer_seed
from src.config.privacy import PrivacySettings
from src.config.train import TrainSettings
from src.data.classes import CLASSES
from src.data.dataset import ImageSet, test_sets, train_sets
from src.data.grids import png, tile
from src.metrics.extractors import choose_extractor
from src.metrics.features import FeatureExtractor
from src.models.io import load_generators
from src.models.sampling import generate
from src.privacy.attack import Attack
from src.privacy.copy_filter import PIXELS, make_spaces
from src.privacy.copy_test import SpaceFindings, closest, find_copies
from src.privacy.membership import (
    CLEAN,
    MembershipResult,
    attack_halves,
    membership_sentence,
    train_halves,
)
from src.privacy.neighbours import Nearest
from src.privacy.perturbations import PERTURBATIONS
from src.privacy.verdict import judge_copying, shared_level

# Columns of the table of the membership attacks; a row has the numbers of ``_membership_result``.
MEMBERSHIP_COLUMNS = [
    *("class", "space", "attack", "auc", "low", "high"),
    *("tpr_at_1_percent", "tpr_low", "tpr_high", "members", "others"),
]


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
        if settings.membership:
            training = stage.settings.train_of("normal" if label == "NORMAL" else "pneumonia")
            metrics[label]["membership"] = _attack_membership(
                stage, label, training, train[label], held_out[label], extractor
            )
            logger.info(f"{label}: {metrics[label]['membership']['sentence']}")
    write_table(folder / "nearest.csv", pd.concat(tables))
    write_table(folder / "membership.csv", _membership_table(metrics))
    stage.write_metrics("privacy", metrics, _for_mlflow(metrics))
    for label in CLASSES:
        stage.run.set_tag(f"privacy.{label.lower()}", metrics[label]["verdict"])
    for name in ("nearest.csv", "membership.csv"):
        stage.run.log_file(folder / name, "privacy")


def _attack_membership(
    stage: Stage,
    label: str,
    training: TrainSettings,
    train: ImageSet,
    held_out: ImageSet,
    extractor: FeatureExtractor,
) -> dict[str, Any]:
    """Train two generators on swapped halves of the train patients, and attack both.

    Both have the settings and the epochs of the class's training, so each of their train images is
    seen as often. They differ in their images alone, since they have the same seed too.

    Returns:
        the results under the keys of the metrics file.
    """
    # Train the generators, and draw images of each.
    settings, number = stage.settings.privacy, CLASSES.index(label)
    halves = train_halves(train, settings, number)
    generators = [
        train_generator(
            stage, f"{label}, {name} half of the patients", label, train.images[half], training
        )
        for name, half in zip(("first", "second"), halves, strict=True)
    ]
    count = settings.membership_images
    first, second = (
        generate(
            generator.network,
            integer_seed(Stream.MEMBERSHIP_GENERATED, settings.seed, number, half),
            count,
        )
        for half, generator in enumerate(generators)
    )
    # Attack them in each space.
    logger.info(f"{label}: attacking two generators, each with {count} images")
    total = len(train) + min(held_out.patients.count, count) + 2 * count
    with Progress(f"features for {label}", total, "images") as shown:
        spaces = make_spaces(
            extractor, stage.settings.fid.batch_size, stage.device(), shown.advance
        )
        results = {
            name: attack_halves(
                train, held_out, halves, (first, second), make_space, settings, number
            )
            for name, make_space in spaces.items()
        }
    return {
        "sentence": membership_sentence({name: part[CLEAN] for name, part in results.items()}),
        "train_images": [len(half) for half in halves],
        "generators": [generator.sha256 for generator in generators],
        "spaces": {
            name: {attack: _membership_result(result) for attack, result in part.items()}
            for name, part in results.items()
        },
    }


def _membership_result(result: MembershipResult) -> dict[str, float]:
    """Return the result of a membership attack under the keys of the metrics file."""
    return {
        **_attack(result),
        "tpr_at_1_percent": result.true_positives,
        "tpr_low": result.true_positives_interval.low,
        "tpr_high": result.true_positives_interval.high,
    }


def _membership_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Tabulate the membership attacks; without them the table has no rows."""
    rows = [
        {"class": label, "space": space, "attack": attack, **numbers}
        for label, part in metrics.items()
        for space, attacks in part.get("membership", {"spaces": {}})["spaces"].items()
        for attack, numbers in attacks.items()
    ]
    return pd.DataFrame(rows, columns=MEMBERSHIP_COLUMNS)


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
    shown = {
        f"{label}/{what} in {space}": value
        for label, part in metrics.items()
        for space, numbers in part["spaces"].items()
        for what, value in (
            ("near", numbers["caught"]["generated"]["share"]),
            ("held-out near", numbers["caught"]["held_out"]["share"]),
            ("attack", numbers["attack"]["auc"]),
        )
    }
    attacks = _membership_table(metrics).to_dict("records")
    return shown | {
        f"{row['class']}/membership {row['attack']} in {row['space']}": row["auc"]
        for row in attacks
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


def _attack(attack: Attack | MembershipResult) -> dict[str, float]:
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
