"""Generators that a stage trains for itself, on images of its own choice.

Each has an MLflow run of its own, below that of its stage, and lies in
`.checkpoints/generators/<key>`. The key is a hash of its images, settings, code and device. So a
stage that was killed goes on where it was, and takes a generator that is done as it is.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoints import checkpoint_folder, generator_key
from pipeline.stage import Stage
from pipeline.train import run_training
from src.common.devices import choose_compute
from src.common.files import sha256_of_array
from src.common.logging import logger
from src.common.paths import HOME
from src.config.settings import flatten
from src.config.train import TrainSettings
from src.models.io import LoadedGenerator, Origin, load_generator, save_generator
from src.tracking.runs import archive_run, start_run
from src.training.checkpoints import Checkpoints
from src.training.loop import Safeguards

MAX_KEPT = 64  # generators that stay for the next run of a stage, those used last; some MB each


def train_generator(
    stage: Stage, title: str, label: str, images: NDArray[np.uint8], settings: TrainSettings
) -> LoadedGenerator:
    """Train a generator within a stage, or take the one that was trained on the same before.

    It trains in one process. One that collapses is warned of and kept, since that is a result of
    the stage's experiment; losses that are not finite end the stage.

    Args:
        stage: the stage, below whose run that of the training stands.
        title: says in lines and as the run's name which of the stage's generators it is.
        label: its class, by its name in ``CLASSES``.
        images: uint8 (n, size, size), which are all that it learns from.
        settings: networks and schedule.

    Returns:
        the generator in eval mode on the device of ``compute``, with the SHA-256 of its file. The
        same arguments give the same bytes.

    Raises:
        UserError: if a batch is larger than the set, or the training ends in no finite numbers.
        KeyboardInterrupt: if the process was asked to stop; the state has been saved.
    """
    # Name the generator by all that its bytes depend on.
    compute = choose_compute(stage.settings.compute)
    origin = Origin(
        label=label,
        source=stage.settings.data.source,
        images=len(images),
        images_sha256=sha256_of_array(images),
        training=settings.model_dump(mode="json"),
    )
    with checkpoint_folder("generators", generator_key(origin, compute), MAX_KEPT) as folder:
        file = folder / "generator.pt"
        checkpoints, work = Checkpoints(folder), f"generator-{folder.name}"
        if file.exists():
            logger.info(f"{title}: trained before on the same images, with the same settings")
        else:
            # Train it, in a run that goes on if this process is killed.
            params = flatten(settings) | {
                "data.source": origin.source,
                "class": label,
                "images": str(origin.images),
            }
            tags = {
                "generator.stage": stage.name,
                "params.sha256": stage.params_sha256,
                "images.sha256": origin.images_sha256,
            }
            name = f"{stage.name}: {title}"
            with start_run(name, HOME, params, tags, work, stage.run.run_id) as run:
                shared = stage.settings.train
                safeguards = Safeguards(
                    checkpoints,
                    shared.checkpoint_interval_seconds,
                    on_divergence="warn",
                    collapse_patience=shared.collapse_patience,
                )
                result = run_training(run, title, images, settings, compute, safeguards)
            save_generator(file, result.generator, origin)
        # Not before the generator was written: until then the checkpoints may be needed.
        checkpoints.remove()
        archive_run(HOME, work)
        return load_generator(file, compute.device)
