"""The trained generators as they are handed on through MLflow, and what decides which is best."""

import hashlib
import json
from pathlib import Path

import torch

from ..common.files import sha256_of_array
from ..common.paths import PROJECT, generator_path
from ..config.fid import FidSettings
from ..data.classes import CLASSES
from ..data.dataset import test_split
from ..models import portable
from ..models.export import export_generator
from ..models.io import load_generator
from ..tracking.registry import Package, registered_name
from .findings import Findings

# Tags of a version, by which `make promote` compares it.
DISTANCE, PRIVACY, JUDGED_BY = "frechet", "privacy", "judged_by"
REQUIRES = ("torch", "numpy", "pandas", "pillow")


def package_of(label: str, findings: Findings, judge: str, card: str) -> Package:
    """A class's generator with its card, licence and scores, and what ``judged_by`` names."""
    path = generator_path(label)

    def build(folder: Path) -> None:
        texts = {
            "model-card.md": card,
            "LICENSE": (PROJECT / "LICENSE").read_text(encoding="utf-8"),
        }
        export_generator(load_generator(path, torch.device("cpu")), texts, folder)

    return Package(
        name=registered_name(label),
        build=build,
        code=Path(portable.__file__),
        requires=REQUIRES,
        tags={
            "generator.sha256": findings.generators[label],
            DISTANCE: str(findings.scores[label]["frechet"]["value"]),
            PRIVACY: findings.privacy[label]["verdict"],
            JUDGED_BY: judge,
        },
    )


def judged_by(settings: FidSettings, extractor: str) -> str:
    """What names the test images, features and sizes of a distance; only equals compare.

    Args:
        settings: say how many images are compared, and from which noise.
        extractor: its fingerprint, which for a trained one is that of its weights.
    """
    tests = [sha256_of_array(test_split(label)[0]) for label in CLASSES]
    judge = [extractor, settings.scores.max_images, settings.seed, tests]
    return hashlib.sha256(json.dumps(judge).encode()).hexdigest()
