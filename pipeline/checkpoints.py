"""Folders of the trainings' checkpoints: `.checkpoints/<class>/<key>`, beside DVC's outputs.

The key is a hash of all that the result of a training depends on except `epochs`: code, data,
parameters, torch and the kind of device. So a training with changed parameters never resumes
from another's state, and a longer training resumes from a shorter one.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from src.common.devices import Compute
from src.common.errors import UserError
from src.common.files import remove_folder, sha256_of_file
from src.common.locks import try_lock
from src.common.paths import HOME, PROJECT
from src.config.settings import ClassName, Settings, parse_yaml

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
    stages = parse_yaml((PROJECT / "dvc.yaml").read_text("utf-8"), "dvc.yaml")["stages"]
    try:
        files = {dep: sha256_of_file(PROJECT / dep) for dep in stages[f"train_{name}"]["deps"]}
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: it is missing; `dvc repro` makes it") from error
    parts = {
        "files": files,
        "settings": settings.train_of(name).model_dump(mode="json", exclude={"epochs"}),
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
def checkpoint_folder(name: ClassName, key: str) -> Iterator[Path]:
    """Lock the folder of a key for this process, and remove the folders used longest ago.

    While another process runs the same training, as in a queue of experiments, this one uses a
    second folder, and so on.
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
        _prune(ROOT / name)
        yield folder


def _prune(parent: Path) -> None:
    """Remove all folders except the ``MAX_KEPT`` used last and those in use."""
    used: dict[Path, float] = {}
    for path in parent.glob(f"*/{LOCK}"):
        with suppress(FileNotFoundError):  # another training has just removed it
            used[path] = path.stat().st_mtime
    for path in sorted(used, key=lambda path: used[path], reverse=True)[MAX_KEPT:]:
        with suppress(FileNotFoundError):
            lock = try_lock(path)
            if lock is not None:
                with lock:
                    remove_folder(path.parent)
