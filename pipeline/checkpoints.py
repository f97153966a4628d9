"""Where the checkpoints of a training lie: `.checkpoints/<class>/<key>`, beside DVC's outputs.

The key is a hash of all that the result of a training depends on, code, data, parameters, torch and
the kind of device, but for `epochs`; so a changed parameter never goes on from another's state, and
a longer training goes on from a shorter one.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from ruamel.yaml import YAML

from src.common.devices import Compute
from src.common.errors import UserError
from src.common.files import remove_folder, sha256_of_file
from src.common.locks import try_lock
from src.common.paths import HOME, PROJECT
from src.config.settings import ClassName, Settings

ROOT = HOME / ".checkpoints"
KEPT = 8  # trainings of a class, those last used
LOCK = "lock"


def training_key(settings: Settings, name: ClassName, compute: Compute) -> str:
    """What names the trainings of a class that one checkpoint may serve, 32 hexadecimal digits.

    Raises:
        UserError: if something that the training depends on is missing.
    """
    stages = YAML(typ="safe", pure=True).load(PROJECT / "dvc.yaml")["stages"]
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
    """The folder of a key, for this process alone.

    Where another process is training the same (a queue of experiments may do so), there is a
    second folder, and so on. Those that were not used for longest are removed.
    """
    number = 1
    while True:
        folder = ROOT / name / (key if number == 1 else f"{key}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another training has just removed it as an old one
            held = try_lock(folder / LOCK)
            if held is not None:
                break
            number += 1
    with held:
        (folder / LOCK).touch()  # the time of its last use
        _prune(ROOT / name)
        yield folder


def _prune(parent: Path) -> None:
    """Remove all but the folders last used, and none that is in use."""
    used: dict[Path, float] = {}
    for path in parent.glob(f"*/{LOCK}"):
        with suppress(FileNotFoundError):  # another training has just removed it
            used[path] = path.stat().st_mtime
    for path in sorted(used, key=lambda path: used[path], reverse=True)[KEPT:]:
        with suppress(FileNotFoundError):
            held = try_lock(path)
            if held is not None:
                with held:
                    remove_folder(path.parent)
