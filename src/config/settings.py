"""All settings of params.yaml, which are read and checked before any work starts."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ..common.conflicts import describe_conflicts, has_conflict
from ..common.errors import UserError
from .base import Count, Section
from .checks import check_evaluation, check_preprocessing, check_source, check_training
from .compute import ComputeSettings
from .data import DataSettings, PreprocessSettings
from .fid import FidSettings
from .presets import preset_sizes
from .privacy import PrivacySettings
from .renames import new_name
from .report import ReportSettings
from .search_space import check_names
from .train import TrainSettings
from .tune import TuneSettings
from .utility import UtilitySettings

ClassName = Literal["normal", "pneumonia"]


class ClassesTrainSettings(Section):
    """Networks and trainings of both classes, and the settings that they share."""

    processes: Count
    checkpoint_interval_seconds: Annotated[float, Field(ge=0)]
    on_divergence: Literal["stop", "warn"]
    collapse_patience: Count
    normal: TrainSettings
    pneumonia: TrainSettings


class Settings(Section):
    """All sections of params.yaml."""

    data: DataSettings
    preprocess: PreprocessSettings
    train: ClassesTrainSettings
    fid: FidSettings
    privacy: PrivacySettings
    utility: UtilitySettings
    tune: TuneSettings
    report: ReportSettings
    compute: ComputeSettings

    @model_validator(mode="after")
    def _choices_make_sense(self) -> Self:
        # Check the training of each class.
        for name, train in (("normal", self.train.normal), ("pneumonia", self.train.pneumonia)):
            try:
                check_training(train)
            except ValueError as error:
                raise ValueError(f"train.{name}.{error}") from error
            try:
                train.check_image_size(self.preprocess.image_size)
            except ValueError as error:
                advice = _preset_advice(self.preprocess.image_size)
                raise ValueError(f"train.{name}: {error}; {advice}") from error
            if train.batch_size % self.train.processes:
                raise ValueError(
                    f"train.processes: {self.train.processes} processes cannot share "
                    f"train.{name}.batch_size = {train.batch_size} evenly"
                )
        # Check the choices of the search, the source and the evaluation.
        try:
            check_names(self.train.normal, self.tune.space)
        except ValueError as error:
            raise ValueError(f"tune.space.{error}") from error
        try:
            check_source(self.data)
        except ValueError as error:
            raise ValueError(f"data.{error}") from error
        try:
            check_preprocessing(self.preprocess)
        except ValueError as error:
            raise ValueError(f"preprocess.{error}") from error
        try:
            check_evaluation(self.fid)
        except ValueError as error:
            raise ValueError(f"fid.{error}") from error
        # Check the sizes of images.
        if self.utility.image_size > self.preprocess.image_size:
            raise ValueError(
                f"utility.image_size: {self.utility.image_size} is more than the "
                f"{self.preprocess.image_size} pixels of preprocess.image_size"
            )
        min_size = 2 ** len(self.fid.classifier.channels)
        if self.preprocess.image_size < min_size:
            raise ValueError(
                f"fid.classifier.channels: {len(self.fid.classifier.channels)} halvings need "
                f"images of {min_size} pixels or more (preprocess.image_size)"
            )
        return self

    def train_of(self, name: ClassName) -> TrainSettings:
        """Return the training settings of one class."""
        return self.train.normal if name == "normal" else self.train.pneumonia


def load_settings(path: Path, overrides: Iterable[str] = ()) -> Settings:
    """Read params.yaml; each override is ``section.key=value`` with a YAML value.

    Raises:
        UserError: if the file cannot be read, or a key or value is refused; it names each fault.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the parameters cannot be read: {error}") from error
    return read_settings(text, path.name, overrides)


def read_settings(text: str, name: str, overrides: Iterable[str] = ()) -> Settings:
    """Check the text of a file, like ``load_settings``; errors name the file ``name``."""
    tree = parse_yaml(text, name)
    if not isinstance(tree, dict):
        raise UserError(f"{name}: it must be a mapping of sections such as data and train")
    for override in overrides:
        _override(tree, override)
    return parse_settings(tree, name)


def parse_settings(tree: Mapping[str, Any], name: str = "params.yaml") -> Settings:
    """Check a parsed tree; errors name ``name`` and the dotted path of each faulty key."""
    try:
        # Through JSON, because there a strict model takes a list for a tuple and 1 for 1.0.
        return Settings.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        faults = "; ".join(_descriptions(error))
        raise UserError(f"{name}: {faults}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{name}: the parameters cannot be used: {error}") from None


def _preset_advice(image_size: int) -> str:
    """Name the presets for images of ``image_size`` pixels, or the sizes that presets are for."""
    sizes = preset_sizes()
    fitting = [f"networks/{name}.yaml" for name, size in sizes.items() if size == image_size]
    if fitting:
        return f"{' and '.join(fitting)} fit{'s' * (len(fitting) == 1)}"
    known = sorted({size for size in sizes.values() if size is not None})
    return f"the networks of networks/ are for {', '.join(map(str, known))} pixels"


def flatten(settings: Section) -> dict[str, str]:
    """Return all parameters as ``{"train.normal.batch_size": "64", ...}``, lists as JSON."""
    flat: dict[str, str] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = value if isinstance(value, str) else json.dumps(value)

    visit("", settings.model_dump(mode="json"))
    return flat


def parse_yaml(text: str, name: str) -> Any:
    """Parse YAML 1.2, as DVC does, without constructing anything but plain values.

    Raises:
        UserError: if it is no YAML, or git left a conflict in it; it names ``name``.
    """
    if has_conflict(text):
        raise UserError(describe_conflicts([name]))
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name}: this is not valid YAML: {reason}") from None


def _override(tree: dict[str, Any], override: str) -> None:
    """Set one ``section.key=value`` in ``tree``; the key must exist."""
    key, equals, text = override.partition("=")
    *sections, last = key.split(".")
    parent: Any = tree
    for section in sections:
        parent = parent.get(section) if isinstance(parent, dict) else None
    if (renamed := new_name(key)) is not None:
        raise UserError(f"{override}: {key} is called {renamed} now")
    if not equals or not isinstance(parent, dict) or last not in parent:
        raise UserError(f"{override}: give an existing parameter as section.key=value")
    parent[last] = parse_yaml(text, key) if text else ""


def _descriptions(error: ValidationError) -> list[str]:
    """Describe every fault; the new name of a renamed parameter does not count as missing."""
    faults = error.errors()
    renamed = {new_name(_dotted(fault)) for fault in faults}
    return [
        _describe(fault)
        for fault in faults
        if fault["type"] != "missing" or _dotted(fault) not in renamed
    ]


def _dotted(fault: Any) -> str:
    """Return the dotted key of one of pydantic's faults."""
    return ".".join(str(part) for part in fault["loc"])


def _describe(fault: Any) -> str:
    """Describe one of pydantic's faults as ``train.normal.batch_size: reason``."""
    key = _dotted(fault)
    if fault["type"] == "extra_forbidden":
        if (renamed := new_name(key)) is not None:
            return f"{key}: the parameter is called {renamed} now; rename it"
        return f"{key}: there is no such parameter"
    if fault["type"] == "missing":
        return f"{key}: the parameter is missing"
    reason = fault["msg"].removeprefix("Value error, ")
    given = "" if isinstance(fault["input"], dict) else f" (given: {fault['input']!r})"
    return f"{key}: {reason}{given}" if key else reason
