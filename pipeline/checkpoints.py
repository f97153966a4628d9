"""Folders of the trainings' checkpoints: `.checkpoints/<class>/<key>`, beside DVC's outputs.

The key is a hash of all that the result of a training depends on except `epochs`: code, data,
parameters, torch and the kind of device. So a training with changed parameters never resumes
from another's state, and a longer training resumes from a shorter one. Generators that other stages
train lie in `.checkpoints/generators/<key>`, and their key has `epochs` too.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from src.common.devices import Compute
from src.common.errors import UserError
from src.common.files import remove_folder, sha256_of_file
from src.common.locks import try_lock
from src.common.paths import HOME, PROJECT
from src.config.settings import ClassName, Settings, parse_yaml
from src.models.io import Origin

ROOT = HOME / ".checkpoints"
MAX_KEPT = 8  # folders of a class; those used last stay
LOCK = "lock"  # file in each folder, locked while in use; its time is that of the last use


def training_key(settings: Settings, name: ClassName, compute: Compute) -> str:
    """Hash all that the result of a class's training depends on, except `epochs`.

    Returns:
        32 hexadecimal digits.

    Raises:
        UserError: if something that the training depends on is missing.
    """
    training = settings.train_of(name).model_dump(mode="json", exclude={"epochs"})
    return _key(_dependencies(name), training, compute)


def generator_key(origin: Origin, compute: Compute) -> str:
    """Hash all that a generator depends on that another stage trains, `epochs` too.

    Args:
        origin: its images by their SHA-256, and the settings of its training.
        compute: what it trains on.

    Returns:
        32 hexadecimal digits.
    """
    code = [path for path in _dependencies("normal") if path.endswith(".py")]
    return _key(code, asdict(origin), compute)


def _dependencies(name: ClassName) -> list[str]:
    """List the files that a class's stage depends on, as dvc.yaml does."""
    stages = parse_yaml((PROJECT / "dvc.yaml").read_text("utf-8"), "dvc.yaml")["stages"]
    return list(stages[f"train_{name}"]["deps"])


def _key(paths: Iterable[str], settings: Mapping[str, Any], compute: Compute) -> str:
    """Hash files, settings, torch and the ways of computing."""
    try:
        files = {path: sha256_of_file(PROJECT / path) for path in paths}
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: it is missing; `dvc repro` makes it") from error
    parts = {
        "files": files,
        "settings": settings,
        "torch": torch.__version__,
        "compute": [
            "cpu" if compute.device.type == "cpu" else torch.cuda.get_device_name(compute.device),
            compute.precision,
            compute.memory_format,
            compute.compile,
            compute.threads,
        ],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def checkpoint_folder(name: str, key: str, max_kept: int = MAX_KEPT) -> Iterator[Path]:
    """Lock the folder of a key for this process, and remove the folders used longest ago.

    While another process runs the same training, as in a queue of experiments, this one uses a
    second folder, and so on.

    Args:
        name: a class, or `generators`; the folder lies in that of this name.
        key: of the training.
        max_kept: number of the name's folders that stay; those in use stay as well.
    """
    number = 1
    while True:
        folder = ROOT / name / (key if number == 1 else f"{key}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another training has just removed it as an old one
            lock = try_lock(folder / LOCK)
            if lock is not None:
                break
            number += 1
    with lock:
        (folder / LOCK).touch()
        _prune(ROOT / name, max_kept)
        yield folder


def _prune(parent: Path, max_kept: int) -> None:
    """Remove all folders except the ``max_kept`` used last and those in use."""
    used: dict[Path, float] = {}
    for path in parent.glob(f"*/{LOCK}"):
        with suppress(FileNotFoundError):  # another training has just removed it
            used[path] = path.stat().st_mtime
    for path in sorted(used, key=lambda path: used[path], reverse=True)[max_kept:]:
        with suppress(FileNotFoundError):
            lock = try_lock(path)
            if lock is not None:
                with lock:
                    remove_folder(path.parent)
