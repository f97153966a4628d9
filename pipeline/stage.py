"""What every stage does around its work: settings, tracking, errors as one line."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from src.common.errors import report_errors
from src.common.files import write_json
from src.common.outputs import read_metrics
from src.common.paths import HOME, METRICS, PARAMS
from src.config.settings import Settings, flatten, load_settings
from src.tracking.runs import Run, start_run

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Stage:
    """A stage that is running."""

    name: str
    settings: Settings
    run: Run

    @property
    def params_sha256(self) -> str:
        """What names the parameters, also in the run's tags."""
        return _params_sha256(flatten(self.settings))

    def device(self) -> "torch.device":
        """Set up the device that the parameters name, and note its number of threads."""
        # Here, since torch takes a second to import and some stages need none.
        import torch

        from src.common.devices import choose_device

        compute = self.settings.compute
        device = choose_device(compute.device, compute.threads)
        self.run.set_tag("compute.threads", str(torch.get_num_threads()))
        return device

    def write_metrics(
        self, name: str, metrics: dict[str, Any], shown: Mapping[str, float] | None = None
    ) -> None:
        """Write the stage's metrics for DVC, and log them.

        Args:
            name: of the file.
            metrics: what it holds.
            shown: the few numbers that MLflow draws, under names whose part before a slash is the
                section; all others are in the file, which is logged as well.
        """
        path = METRICS / f"{name}.json"
        write_json(path, metrics)
        self.run.log_file(path)
        self.run.log_metrics(shown or {})


def run_stage(name: str, work: Callable[[Stage], None]) -> int:
    """Do a stage's work within an MLflow run; the exit status.

    The parameters are checked and the tracking store is reached before any work starts.
    """
    return report_errors(lambda: track(name, load_settings(PARAMS), work))


def track(
    name: str, settings: Settings, work: Callable[[Stage], None], resume: str | None = None
) -> None:
    """Do a stage's work within an MLflow run.

    Args:
        name: of the stage.
        settings: the parameters.
        work: what to do.
        resume: names work that goes on where it was cut off, in the same run.
    """
    everything = flatten(settings)
    params = {key: value for key, value in everything.items() if _belongs(key, name)}
    experiment = os.environ.get("DVC_EXP_NAME") or "workspace"
    tags = {
        "dvc.stage": name,
        "dvc.experiment": experiment,
        "params.sha256": _params_sha256(everything),
    }
    if name != "fetch":
        tags["data.sha256"] = str(read_metrics("fetch")["data_sha256"])
    with start_run(f"{name} ({experiment})", HOME, params, tags, resume) as run:
        work(Stage(name, settings, run))


def _belongs(parameter: str, stage: str) -> bool:
    """Whether a stage's run shows a parameter: all, but of a training only its own.

    What comes after the trainings is compared by the parameters of both. Beside the samples of a
    training MLflow lists its run's parameters, and a hundred would leave the images no room.
    """
    label = stage.removeprefix("train_")
    if label == stage:
        return True
    own = ("data.source", "preprocess.image_size", f"train.{label}.", "compute.")
    return parameter.startswith(own)


def _params_sha256(params: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(params).encode()).hexdigest()
