"""Frame of every stage: settings, an MLflow run, metrics, errors as one line."""

from __future__ import annotations

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

if TYPE_CHECKING:
    import torch

    from src.tracking.runs import Run


@dataclass(frozen=True)
class Stage:
    """A running stage, with its settings and its MLflow run."""

    name: str
    settings: Settings
    run: Run

    @property
    def params_sha256(self) -> str:
        """SHA-256 of the parameters, as in the MLflow tag `params.sha256`."""
        return _params_sha256(flatten(self.settings))

    def device(self) -> torch.device:
        """Return the device that the parameters name; tag the run with its number of threads."""
        # Imported here, because torch takes a second and some stages do not need it.
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
            name: the file's name without its suffix.
            metrics: the file's content.
            shown: the few numbers that MLflow plots; the part of a name before a slash is its
                section. The file, which is logged too, has all numbers.
        """
        path = METRICS / f"{name}.json"
        write_json(path, metrics)
        self.run.log_file(path)
        self.run.log_metrics(shown or {})


def run_stage(name: str, work: Callable[[Stage], None]) -> int:
    """Run a stage within an MLflow run and return its exit status.

    The parameters and the connection to the tracking store are checked before any work starts.
    """
    return report_errors(lambda: track(name, load_settings(PARAMS), work))


def track(
    name: str, settings: Settings, work: Callable[[Stage], None], resume: str | None = None
) -> None:
    """Do a stage's work within an MLflow run.

    Args:
        name: the stage's name.
        settings: the parameters.
        work: the function that does the work.
        resume: identifies work that can be resumed. If an earlier process with this key was
            interrupted, its MLflow run goes on.
    """
    from src.tracking.runs import start_run  # here, because MLflow takes seconds to import

    everything = flatten(settings)
    params = {key: value for key, value in everything.items() if _is_shown(key, name)}
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


def _is_shown(parameter: str, stage: str) -> bool:
    """Return whether a stage's run shows a parameter; a training shows only its own.

    Stages after the trainings are compared by the parameters of both. MLflow lists a training's
    parameters beside its sample images, and a hundred of them would leave the images no room.
    """
    label = stage.removeprefix("train_")
    if label == stage:
        return True
    shared = ("data.source", "preprocess.image_size", "compute.")
    own = (*shared, f"data.names.{label}", f"train.{label}.")
    return parameter.startswith(own)


def _params_sha256(params: dict[str, str]) -> str:
    """Return the SHA-256 of parameters by dotted name, in their order."""
    return hashlib.sha256(json.dumps(params).encode()).hexdigest()
