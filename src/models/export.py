"""A generator as files that can be handed on and used without this project."""

import io
import json
import shutil
from pathlib import Path

import torch

from ..common.errors import UserError
from ..data.credits import CREDITS
from .io import SavedGenerator
from .sampling import BATCH, FACTS, NETWORK


def facts_of(saved: SavedGenerator) -> dict[str, str]:
    """What every image that it draws says of it.

    Raises:
        UserError: if nobody knows to whom its images are due.
    """
    credit = CREDITS.get(saved.origin.source)
    if credit is None:
        raise UserError(f"{saved.file}: it learnt from the unknown source {saved.origin.source!r}")
    return {
        "class": saved.origin.label,
        "model_sha256": saved.sha256,
        "data": credit.source,
        "licence": credit.licence,
    }


def export_generator(saved: SavedGenerator, texts: dict[str, str], out: Path) -> None:
    """Write what ``src.models.sampling`` draws from, and the generator's own file.

    Args:
        saved: on the CPU.
        texts: other files to put beside it, by name.
        out: a folder, made if needed.
    """
    out.mkdir(parents=True, exist_ok=True)
    latent = saved.network.settings.latent_dim
    program = torch.export.export(saved.network, (torch.zeros(BATCH, latent),))
    # Through memory, since torch has errors of its own for a full disk.
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    (out / NETWORK).write_bytes(buffer.getvalue())
    facts = facts_of(saved) | {"latent": latent, "image_size": saved.network.image_size}
    (out / FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
    shutil.copyfile(saved.file, out / "generator.pt")
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
