"""Packages of the trained generators for MLflow's registry, with the tags that compare them."""

import hashlib
import json
from pathlib import Path

import torch

from ..common.files import sha256_of_array
from ..common.paths import PROJECT, generator_path
from ..config.fid import FidSettings
from ..data.dataset import test_sets
from ..models import sampling
from ..models.export import export_generator
from ..models.io import load_generator
from ..tracking.registered_model import (
    DISTANCE,
    JUDGED_BY,
    PRIVACY,
    ModelPackage,
    registered_name,
)
from .findings import Findings

REQUIREMENTS = ("torch", "numpy", "pandas", "pillow")  # that models.sampling imports


def package_generator(label: str, findings: Findings, judge: str, card: str) -> ModelPackage:
    """Package a class's generator with its card, licence and scores.

    Args:
        label: the class.
        findings: the results of all stages.
        judge: fingerprint of the test images and features, see ``judge_fingerprint``.
        card: the model card, Markdown.
    """
    path = generator_path(label)

    def build(folder: Path) -> None:
        texts = {
            "model-card.md": card,
            "LICENSE": (PROJECT / "LICENSE").read_text(encoding="utf-8"),
        }
        export_generator(load_generator(path, torch.device("cpu")), texts, folder)

    return ModelPackage(
        name=registered_name(label),
        build=build,
        loader=Path(sampling.__file__),
        requirements=REQUIREMENTS,
        tags={
            "generator.sha256": findings.generators[label],
            DISTANCE: str(findings.scores[label]["frechet"]["value"]),
            PRIVACY: findings.privacy[label]["verdict"],
            JUDGED_BY: judge,
        },
    )


def judge_fingerprint(settings: FidSettings, extractor: str) -> str:
    """Return a SHA-256 of the test images, features and sizes behind a Fréchet distance.

    Two distances compare only if their fingerprints are equal.

    Args:
        settings: the fid section; the number of images and the seed are used.
        extractor: fingerprint of the extractor; that of a trained one includes its weights.
    """
    tests = [sha256_of_array(part.images) for part in test_sets().values()]
    judge = [extractor, settings.scores.max_images, settings.seed, tests]
    return hashlib.sha256(json.dumps(judge).encode()).hexdigest()
