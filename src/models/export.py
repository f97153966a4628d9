"""A generator as files that can be handed on and used without this project."""

import io
import json
import shutil
from pathlib import Path

import torch

from ..common.errors import UserError
from ..config.registry import SOURCES
from .io import LoadedGenerator
from .sampling import BATCH, FACTS, NETWORK


def describe_generator(loaded: LoadedGenerator) -> dict[str, str]:
    """Describe a generator by the facts that every image drawn from it carries.

    Returns:
        class, model_sha256, data (the credit for the train images) and licence.

    Raises:
        UserError: if the licence of its train images is not known.
    """
    credit = SOURCES.get(loaded.origin.source)
    if credit is None:
        raise UserError(
            f"{loaded.file}: its images are of the unknown source {loaded.origin.source!r}"
        )
    return {
        "class": loaded.origin.label,
        "model_sha256": loaded.sha256,
        "data": credit.credit,
        "licence": credit.licence,
    }


def export_generator(loaded: LoadedGenerator, texts: dict[str, str], out: Path) -> None:
    """Write the network and facts that ``sampling.py`` reads, and copy the generator's own file.

    Args:
        loaded: the generator, on the CPU.
        texts: contents of further text files, by file name.
        out: the folder to write to; it is made if needed.
    """
    out.mkdir(parents=True, exist_ok=True)
    latent = loaded.network.settings.noise_width
    program = torch.export.export(loaded.network, (torch.zeros(BATCH, latent),))
    # Through memory, since torch has errors of its own for a full disk.
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    (out / NETWORK).write_bytes(buffer.getvalue())
    facts = describe_generator(loaded) | {"latent": latent, "image_size": loaded.network.image_size}
    (out / FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
    shutil.copyfile(loaded.file, out / "generator.pt")
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
