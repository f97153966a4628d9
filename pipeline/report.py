"""Stage report: write the figures, the model card and the page; package the generators."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Stage, run_stage
from src.common.errors import UserError
from src.common.files import atomic_folder, sha256_of_file, write_file
from src.common.logging import logger
from src.common.outputs import read_array, read_metrics, read_table, unusable_file_error
from src.common.paths import HOME, PROJECT, array_path, generator_path, model_folder
from src.config.settings import Settings, flatten
from src.config.train import SampleSettings
from src.data.classes import CLASSES
from src.data.grids import png, read_png, tile
from src.metrics.hypothesis import HypothesisResult
from src.metrics.thesis import published_description
from src.report.card import render_card
from src.report.figures import (
    classifier_scores,
    closest_pairs,
    distance_boxes,
    loss_curves,
    nearest_ratios,
    real_beside_generated,
    sample_evolution,
    scarcity_gains,
)
from src.report.findings import Findings
from src.report.packages import judge_fingerprint, package_generator
from src.report.pages import render_report
from src.tracking.address import has_server, runs_link


def report(stage: Stage) -> None:
    """Write reports/figures, reports/model-card.md and reports/index.html; log the generators."""
    # Collect the results, and render figures, card and page.
    settings = stage.settings
    reports = PROJECT / "reports"
    grids = {label: _sample_grids(label) for label in CLASSES}
    findings = _findings(settings)
    figures = _figures(settings, grids, findings)
    card = render_card(findings)
    # Write the files.
    with atomic_folder(reports / "figures") as folder:
        for name, content in figures.items():
            (folder / f"{name}.png").write_bytes(content)
    write_file(reports / "model-card.md", card)
    page = reports / "index.html"
    samples = {
        label: {epoch: png(grid) for epoch, grid in by_epoch.items()}
        for label, by_epoch in grids.items()
    }
    link = runs_link(HOME, {"params.sha256": stage.params_sha256})
    write_file(page, render_report(findings, figures, samples, card, link, has_server(HOME)))
    # Log the files and the generators.
    for name in figures:
        stage.run.log_file(reports / "figures" / f"{name}.png", "figures")
    stage.run.log_file(page)
    stage.run.log_file(reports / "model-card.md")
    judge = judge_fingerprint(settings.fid, findings.extractor["fingerprint"])
    for label in CLASSES:
        stage.run.log_generator(package_generator(label, findings, judge, card))
    logger.info(f"the report is {page}")


def _figures(
    settings: Settings, grids: Mapping[str, dict[int, NDArray[np.uint8]]], findings: Findings
) -> dict[str, bytes]:
    """Draw the figures and return PNG files by name.

    Args:
        settings: the parameters; those of the report and of the sample grids are used.
        grids: the sample grids of each class, by epoch.
        findings: the results; the classifiers' scores and the classes' names are used.
    """
    reports = PROJECT / "reports"
    names = findings.class_names
    histories = {names[c]: read_table(model_folder(c) / "history.csv") for c in CLASSES}
    shown = {
        names[label]: _select_evenly(grids[label], settings.report.evolution_epochs)
        for label in CLASSES
    }
    samples = {
        "NORMAL": settings.train.normal.samples,
        "PNEUMONIA": settings.train.pneumonia.samples,
    }
    pairs = {
        names[label]: (_real_grid(label, samples[label]), grids[label][max(grids[label])])
        for label in CLASSES
    }
    closest = {
        names[c]: _read_grid(reports / "privacy" / f"closest_{c.lower()}.png") for c in CLASSES
    }
    ratios = read_table(reports / "privacy" / "nearest.csv")
    scarcity = findings.utility["scarcity"]
    gains = {"scarcity_gains": scarcity_gains(scarcity["comparisons"])} if scarcity else {}
    return gains | {
        "nearest_ratios": nearest_ratios(ratios.assign(**{"class": ratios["class"].map(names)})),
        "closest_pairs": closest_pairs(closest),
        "classifier_scores": classifier_scores(findings.classifiers),
        "distance_boxes": distance_boxes(read_table(reports / "fid" / "distances.csv")),
        "real_beside_generated": real_beside_generated(pairs),
        "sample_evolution": sample_evolution(shown),
        "loss_curves": loss_curves(histories),
    }


def _findings(settings: Settings) -> Findings:
    """Collect the results of all stages."""
    reports = PROJECT / "reports"
    fetched, prepared, fid = (read_metrics(name) for name in ("fetch", "preprocess", "fid"))
    return Findings(
        title=settings.report.title,
        source=fetched["source"],
        class_names=settings.data.names.by_class(),
        counts=fetched["images"],
        patients=fetched["patients"],
        quality=prepared | {"images_without_patient": fetched["images_without_patient"]},
        verdict=HypothesisResult.from_record(fid["verdict"]),
        description=read_table(reports / "fid" / "describe.csv", index="pair"),
        published=published_description(),
        scores=fid["scores"],
        variety=fid["variety"],
        privacy=read_metrics("privacy"),
        quantile=settings.privacy.near_quantile,
        utility=read_metrics("utility"),
        classifiers=read_table(reports / "utility" / "scores.csv"),
        differences=read_table(reports / "utility" / "differences.csv"),
        extractor=fid["extractor"],
        generators={label: sha256_of_file(generator_path(label)) for label in CLASSES},
        training={label: read_metrics(f"train_{label.lower()}") for label in CLASSES},
        parameters=flatten(settings),
    )


def _read_grid(path: Path) -> NDArray[np.uint8]:
    """Read a grey picture of an earlier stage."""
    try:
        return read_png(path)
    except OSError as error:
        raise unusable_file_error(path, error) from error


def _sample_grids(label: str) -> dict[int, NDArray[np.uint8]]:
    """Read the sample grids of a class's training, by epoch."""
    folder = model_folder(label) / "samples"
    files = {int(file.stem.removeprefix("epoch_")): file for file in folder.glob("epoch_*.png")}
    if not files:
        raise UserError(f"{folder.relative_to(PROJECT)}: no samples; `dvc repro` makes them")
    return {epoch: _read_grid(files[epoch]) for epoch in sorted(files)}


def _select_evenly(grids: dict[int, NDArray[np.uint8]], count: int) -> dict[int, NDArray[np.uint8]]:
    """Select at most ``count`` grids, evenly spread, with the first and the last."""
    epochs = list(grids)
    chosen = np.unique(np.linspace(0, len(epochs) - 1, count).round().astype(int))
    return {epochs[index]: grids[epochs[index]] for index in chosen}


def _real_grid(label: str, samples: SampleSettings) -> NDArray[np.uint8]:
    """Arrange evenly spread test images in a grid like that of the samples."""
    images = read_array(array_path(label, "test"))
    count = min(samples.rows * samples.columns, len(images))
    chosen = np.linspace(0, len(images) - 1, count).round().astype(int)
    return tile(images[chosen], samples.columns)


if __name__ == "__main__":
    sys.exit(run_stage("report", report))
