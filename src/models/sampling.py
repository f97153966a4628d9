"""The one sampler: image number ``index`` of a seed, for users, verdicts and sample grids alike.

This file is copied into each model that is handed on, beside the exported network, so it imports
nothing of the project. MLflow finds ``_load_pyfunc`` in it. A function imports what it needs, so
that commands know the limits of their arguments before NumPy and torch are there.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

NETWORK, FACTS = "network.pt2", "facts.json"  # in the folder of a model
BATCH = 16  # images drawn at once, always, so that an image does not depend on its neighbours
SYNTHETIC = "yes; drawn by a generative network; no patient; not for diagnosis"
LEAST_TRUNCATION = 0.1  # below it, nearly all that is drawn would be drawn anew
LARGEST = 2**63  # of seeds and numbers, what a signed integer of 64 bits holds


def draw_latents(
    seeds: Sequence[int], indices: Sequence[int], width: int, truncation: float = 0.0
) -> NDArray[np.float32]:
    """The noise of image number ``indices[i]`` of seed ``seeds[i]``, (n, width).

    Each image has a stream of its own, so its noise does not depend on what else is drawn.

    Args:
        seeds: not negative.
        indices: not negative.
        width: numbers of noise of an image.
        truncation: values beyond it are drawn anew, which gives more typical and less varied
            images (Brock et al., 2019); 0 keeps the whole N(0, 1).

    Raises:
        ValueError: if a number is out of range.
    """
    import numpy as np

    if truncation and not LEAST_TRUNCATION <= truncation < math.inf:
        raise ValueError(
            f"truncation: it must be 0, or {LEAST_TRUNCATION} or more, not {truncation}"
        )
    for name, numbers in (("seed", seeds), ("index", indices)):
        wrong = [number for number in numbers if not 0 <= number < LARGEST]
        if wrong:
            raise ValueError(f"{name}: it must be 0 or more and below 2^63, not {wrong[0]}")
    latents = np.empty((len(indices), width), dtype=np.float32)
    for row, seed, index in zip(latents, seeds, indices, strict=True):
        rng = np.random.default_rng([int(seed), int(index)])
        row[:] = rng.standard_normal(width, dtype=np.float32)
        while truncation and (beyond := np.abs(row) > truncation).any():
            row[beyond] = rng.standard_normal(int(beyond.sum()), dtype=np.float32)
    return latents


def draw_images(
    network: Callable[[Tensor], Tensor],
    latents: NDArray[np.float32],
    device: torch.device | None = None,
) -> NDArray[np.uint8]:
    """Draw images from latents, in batches of ``BATCH``, the last one padded.

    An image's bytes do not depend on what else is drawn. One thread draws, since the last bit of a
    sum may depend on how many threads share it.

    Args:
        network: from (BATCH, width) to (BATCH, 1, size, size) in [-1, 1].
        latents: (n, width), one or more.
        device: of the network; the CPU if None.

    Returns:
        uint8, (n, size, size).
    """
    import numpy as np
    import torch
    import torch.nn.functional as F

    parts = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            for part in torch.from_numpy(latents).split(BATCH):
                padded = F.pad(part, (0, 0, 0, BATCH - len(part))).to(device or "cpu")
                parts.append(to_bytes(network(padded)[: len(part)]).cpu().numpy())
    finally:
        torch.set_num_threads(threads)
    return np.concatenate(parts)


def generate(generator: nn.Module, seed: int, count: int, start: int = 0) -> NDArray[np.uint8]:
    """Draw images ``start`` to ``start + count - 1`` of a seed, in eval mode.

    Args:
        generator: a generator with its ``settings``.
        seed: below 2^63.
        count: number of images, one or more.
        start: index of the first image.

    Returns:
        uint8, (count, size, size).
    """
    width = int(generator.settings.noise_width)  # type: ignore[union-attr, arg-type]
    latents = draw_latents([seed] * count, range(start, start + count), width)
    was_training = generator.training
    generator.eval()
    try:
        return draw_images(generator, latents, next(generator.parameters()).device)
    finally:
        generator.train(was_training)


def to_unit_range(images: Tensor) -> Tensor:
    """Scale uint8 images (n, size, size) to float32 (n, 1, size, size) in [-1, 1]."""
    return images.unsqueeze(1).float().div_(127.5).sub_(1)


def to_bytes(images: Tensor) -> Tensor:
    """Round float images (n, 1, size, size) in [-1, 1] to uint8 (n, size, size)."""
    return images.squeeze(1).add(1).mul(127.5).round_().clamp_(0, 255).byte()


def text_chunks(facts: Mapping[str, Any]) -> dict[str, str]:
    """What every image file of a generator says of itself, by keyword."""
    return {"synthetic": SYNTHETIC} | {name: str(value) for name, value in facts.items()}


def encode_png(image: NDArray[np.uint8], facts: Mapping[str, Any]) -> bytes:
    """A grey image, uint8 (h, w), as a PNG file that says that it is synthetic, and ``facts``."""
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for name, text in text_chunks(facts).items():
        info.add_itxt(name, text) if not text.isascii() else info.add_text(name, text)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


class PortableGenerator:
    """What MLflow loads: from a table of seeds and numbers to PNG files."""

    def __init__(self, folder: Path) -> None:
        import torch

        self.facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        self._network = torch.export.load(folder / NETWORK).module()

    def predict(self, table: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Draw one image for each row.

        Args:
            table: columns seed and index, integers of 0 or more.
            params: ``truncation``, see ``draw_latents``.

        Returns:
            the table with a column png, each image as a PNG file in base64.

        Raises:
            ValueError: if a number is out of range.
        """
        seeds, indices = (table[name].tolist() for name in ("seed", "index"))
        if not indices:
            raise ValueError("no image is asked for: give rows of seed and index")
        truncation = float((params or {}).get("truncation", 0.0))
        latents = draw_latents(seeds, indices, self.facts["latent"], truncation)
        images = draw_images(self._network, latents)
        said = {name: self.facts[name] for name in ("class", "model_sha256", "data", "licence")}
        rows = [
            said | {"seed": seed, "index": index, "truncation": truncation}
            for seed, index in zip(seeds, indices, strict=True)
        ]
        files = [encode_png(image, row) for image, row in zip(images, rows, strict=True)]
        return table.assign(png=[base64.b64encode(file).decode("ascii") for file in files])


def _load_pyfunc(folder: str) -> PortableGenerator:
    """What MLflow calls."""
    return PortableGenerator(Path(folder))
