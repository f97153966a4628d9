"""A walk through a generator's latent space, as an animated picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command lists the formats without NumPy and Pillow
    import numpy as np
    from numpy.typing import NDArray

    Latents = NDArray[np.float32]

MILLISECONDS = 60  # that a frame is shown
FORMATS = {".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}


def walk(stops: Latents, frames: int) -> Latents:
    """Latents on the way from each stop to the next, and from the last back to the first.

    On great circles, with lengths in between, since noise of a normal distribution lies near a
    sphere and a straight way would cross its empty middle (White, 2016).

    Args:
        stops: two or more, (n, width).
        frames: of each way.

    Returns:
        (n * frames, width), the stops among them.
    """
    import numpy as np

    ways = zip(stops, np.roll(stops, -1, axis=0), strict=True)
    shares = np.arange(frames) / frames
    return np.concatenate([_between(start, end, shares) for start, end in ways])


def _between(start: Latents, end: Latents, shares: NDArray[np.float64]) -> Latents:
    """Points on the way at ``shares`` of it."""
    import numpy as np

    a, b = start.astype(np.float64), end.astype(np.float64)
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    if not length_a or not length_b:
        return (a + shares[:, None] * (b - a)).astype(np.float32)
    angle = np.arccos(np.clip(a @ b / (length_a * length_b), -1, 1))
    t = shares[:, None]
    # Where they point the same way, sin(x) / sin(angle) is x / angle.
    near = angle < 1e-6
    first = 1 - t if near else np.sin((1 - t) * angle) / np.sin(angle)
    second = t if near else np.sin(t * angle) / np.sin(angle)
    lengths = (1 - t) * length_a + t * length_b
    return ((first * a / length_a + second * b / length_b) * lengths).astype(np.float32)


def animation(frames: NDArray[np.uint8], suffix: str, texts: Mapping[str, str]) -> bytes:
    """Grey frames (n, h, w) as an endless animation that holds ``texts``.

    Args:
        frames: two or more.
        suffix: one of ``FORMATS``.
        texts: what the file says of itself, by keyword.
    """
    from PIL import Image, PngImagePlugin

    pictures = [Image.fromarray(frame) for frame in frames]
    said = "; ".join(f"{name}: {text}" for name, text in texts.items())
    buffer = io.BytesIO()
    options: dict[str, object] = {}
    if suffix == ".png":
        info = PngImagePlugin.PngInfo()
        for name, text in texts.items():
            info.add_itxt(name, text)
        options["pnginfo"] = info
    elif suffix == ".gif":
        options["comment"] = said.encode()
    else:
        options["xmp"] = said.encode()
        options["lossless"] = True
    pictures[0].save(
        buffer,
        format=FORMATS[suffix],
        save_all=True,
        append_images=pictures[1:],
        duration=MILLISECONDS,
        loop=0,
        **options,
    )
    return buffer.getvalue()
