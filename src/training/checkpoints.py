"""Checkpoints of a training: whole or absent, and verified when they are read.

A checkpoint is the SHA-256 of its content, 32 bytes, and then the content as torch saves it. All
checkpoints of one folder belong to one set of parameters, data and code and differ only in how far
they are, so a training may go on from any of them.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from ..common.files import remove_stale, write_file
from ..common.logging import logger

MAX_KEPT = 2  # the newest, and the one before it should the newest be damaged
DIGEST_SIZE = hashlib.sha256().digest_size


class Checkpoints:
    """The checkpoints of one training, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.extends_finished = False  # whether ``load`` returned a finished training's state
        self._saved_step: int | None = None  # of the checkpoint saved last

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step`` batches; of those up to it only the newest two stay.

        Args:
            step: batches that were trained on in all.
            state: tensors, numbers, texts, and lists and dicts of them.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).digest()
        write_file(self.folder / f"step_{step:012d}.pt", digest + content)
        self._saved_step = step
        for old in self._files("step", step)[MAX_KEPT:]:
            old.unlink()

    def load(self, last_step: int) -> bytes | None:
        """Read the newest whole checkpoint from which a training to ``last_step`` can go on.

        A finished training's checkpoint is used only if more batches are asked for now; else the
        training starts from scratch. Damaged checkpoints are skipped with a warning.

        Returns:
            the content for ``decode``, or None if there is none.
        """
        remove_stale(self.folder)
        usable = self._files("step", last_step) + self._files("finished", last_step - 1)
        for path in sorted(usable, key=_step_of, reverse=True):
            content = path.read_bytes()
            if hashlib.sha256(content[DIGEST_SIZE:]).digest() == content[:DIGEST_SIZE]:
                self.extends_finished = path.name.startswith("finished")
                return content[DIGEST_SIZE:]
            logger.warning(f"{path} is damaged; going back to the checkpoint before it")
        return None

    def finish(self) -> None:
        """Mark the checkpoint saved last as that of a finished training.

        Of the checkpoints up to it only this one stays, for a longer training.
        """
        assert self._saved_step is not None
        newest, *others = self._files("step", self._saved_step)
        for old in self._files("finished"):
            old.unlink()
        newest.replace(self.folder / f"finished_{_step_of(newest):012d}.pt")
        for old in others:
            old.unlink()

    def remove(self) -> None:
        """Remove all checkpoints, of a training that nobody will go on with."""
        for path in self._files("step") + self._files("finished"):
            path.unlink()

    def newest(self) -> Path | None:
        """Return the newest checkpoint of a training that is not finished, or None."""
        return next(iter(self._files("step")), None)

    def _files(self, kind: str, max_step: float = float("inf")) -> list[Path]:
        """List the checkpoints of a kind after at most ``max_step`` batches, newest first."""
        files = [path for path in self.folder.glob(f"{kind}_*.pt") if _step_of(path) <= max_step]
        return sorted(files, key=_step_of, reverse=True)


def decode(content: bytes) -> dict[str, Any]:
    """Read a checkpoint's state to the CPU; no code in it is run."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def _step_of(path: Path) -> int:
    """Return the number of batches in a checkpoint's name."""
    return int(path.stem.partition("_")[2])
