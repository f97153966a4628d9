"""Checkpoints of a training: whole or absent, and checked when they are read.

A checkpoint is the SHA-256 of its content, 32 bytes, and then the content as torch saves it. All
checkpoints of one folder lie on the same path, that of one set of parameters, data and code, so
any of them may serve as a start.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from ..common.files import remove_stale, write_file
from ..common.logging import logger

KEPT = 2  # the newest, and the one before it should the newest be damaged
DIGEST = hashlib.sha256().digest_size


class Checkpoints:
    """The checkpoints of one training, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.continues_finished = False  # whether ``load`` gave the state of a finished training
        self._last: int | None = None  # batches of the one saved last

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Keep ``state`` (tensors, numbers, texts, lists and dicts of them) after ``step`` batches.

        Of those up to this step only the newest two stay.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).digest()
        write_file(self.folder / f"step_{step:012d}.pt", digest + content)
        self._last = step
        for old in self._files("step", step)[KEPT:]:
            old.unlink()

    def load(self, last: int) -> bytes | None:
        """The newest whole content from which a training of ``last`` batches can go on, or None.

        A finished training's serves only one that goes beyond it, so that a finished one that is
        asked for again starts anew. Damaged ones are named on stderr and passed over.
        """
        remove_stale(self.folder)
        usable = self._files("step", last) + self._files("finished", last - 1)
        for path in sorted(usable, key=_step_of, reverse=True):
            content = path.read_bytes()
            if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
                self.continues_finished = path.name.startswith("finished")
                return content[DIGEST:]
            logger.warning(f"{path} is damaged; going back to the checkpoint before it")
        return None

    def finish(self) -> None:
        """Mark the checkpoint saved last as that of a finished training.

        It alone stays of those up to it, for a training that goes on from there.
        """
        assert self._last is not None
        kept, *rest = self._files("step", self._last)
        for old in self._files("finished"):
            old.unlink()
        kept.replace(self.folder / f"finished_{_step_of(kept):012d}.pt")
        for old in rest:
            old.unlink()

    def newest(self) -> Path | None:
        """The newest checkpoint of a training under way."""
        return next(iter(self._files("step")), None)

    def _files(self, kind: str, most: float = float("inf")) -> list[Path]:
        """The checkpoints of a kind after at most ``most`` batches, newest first."""
        files = [path for path in self.folder.glob(f"{kind}_*.pt") if _step_of(path) <= most]
        return sorted(files, key=_step_of, reverse=True)


def decode(content: bytes) -> dict[str, Any]:
    """The state in a checkpoint's content, on the CPU; no code in it is run."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def _step_of(path: Path) -> int:
    """The batches that a checkpoint's name states."""
    return int(path.stem.partition("_")[2])
