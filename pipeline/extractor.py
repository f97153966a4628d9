"""The feature extractor that the parameters name, for every stage that judges by features."""

from typing import Any

import torch

from pipeline.stage import HOME, Stage, array_path, patients_of, read_array
from src.data.classes import CLASSES
from src.data.download import download_inception
from src.errors import UserError
from src.evaluation.classifier import train_classifier
from src.evaluation.extractors import load_extractor
from src.evaluation.features import FeatureExtractor
from src.files import sha256_of_file
from src.progress import say


def choose_extractor(stage: Stage, device: torch.device) -> tuple[FeatureExtractor, dict[str, Any]]:
    """The extractor, and what the report should say of it.

    Raises:
        UserError: if its weights are missing, or not those that the parameters name.
    """
    settings = stage.settings.fid
    if settings.extractor != "classifier":
        path = HOME / settings.weights if settings.weights else None
        if settings.extractor == "inception":
            path = path or download_inception()
        known = {"resize": settings.resize, "input_scaling": settings.input_scaling}
        if path is not None:
            checksum = sha256_of_file(path) if path.is_file() else "nothing"
            if settings.weights_sha256 not in ("", checksum):
                raise UserError(f"fid.weights_sha256: {path} has the checksum {checksum}")
            known["weights_sha256"] = checksum
        loaded = load_extractor(
            settings.extractor,
            settings.dims,
            path,
            settings.resize,
            settings.input_scaling,
            device,
        )
        return loaded, known
    images = [read_array(array_path(label, "train")) for label in CLASSES]
    trained = train_classifier(
        (images[0], images[1]),
        (patients_of(CLASSES[0], "train"), patients_of(CLASSES[1], "train")),
        settings.classifier,
        settings.dims,
        settings.seed,
        device,
        lambda epoch, loss: stage.run.log_metrics({"classifier.loss": loss}, epoch),
    )
    say(
        f"classifier: balanced accuracy {trained.held_out_accuracy:.1%} on "
        f"{trained.held_out_images} images of patients that it has not seen"
    )
    return trained.extractor, {
        "held_out_accuracy": trained.held_out_accuracy,
        "held_out_images": trained.held_out_images,
    }
