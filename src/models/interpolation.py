"""Interpolation between latents of a generator, and its images as an animation."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command lists the formats without NumPy and Pillow
    import numpy as np
    from numpy.typing import NDArray

    Latents = NDArray[np.float32]

FRAME_MILLISECONDS = 60
FORMATS = {".gif": "GIF", ".png": "PNG", ".webp": "WEBP"}


def interpolate_loop(latents: Latents, frames: int) -> Latents:
    """Interpolate from each latent to the next, and from the last back to the first.

    Spherically, and linearly in length: normal noise lies near a sphere, whose empty middle a
    straight line would cross (White, 2016).

    Args:
        latents: two or more, (n, latent_dim).
        frames: latents from each one up to the next.

    Returns:
        (n * frames, latent_dim), with the given ones among them.
    """
    import numpy as np

    pairs = zip(latents, np.roll(latents, -1, axis=0), strict=True)
    t = np.arange(frames) / frames
    return np.concatenate([_interpolate(start, end, t) for start, end in pairs])


def _interpolate(start: Latents, end: Latents, t: NDArray[np.float64]) -> Latents:
    """Interpolate two latents (latent_dim,) at ``t`` in [0, 1], (frames,)."""
    import numpy as np

    t = t[:, None]
    a, b = start.astype(np.float64), end.astype(np.float64)
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    if not length_a or not length_b:
        return (a + t * (b - a)).astype(np.float32)
    angle = np.arccos(np.clip(a @ b / (length_a * length_b), -1, 1))
    # For small angles sin(x) / sin(angle) is x / angle.
    is_small = angle < 1e-6
    first = 1 - t if is_small else np.sin((1 - t) * angle) / np.sin(angle)
    second = t if is_small else np.sin(t * angle) / np.sin(angle)
    lengths = (1 - t) * length_a + t * length_b
    return ((first * a / length_a + second * b / length_b) * lengths).astype(np.float32)


def encode_animation(frames: NDArray[np.uint8], suffix: str, texts: Mapping[str, str]) -> bytes:
    """Encode frames as an endless animation.

    Args:
        frames: two or more grey images, uint8 (n, h, w).
        suffix: of the file, a key of ``FORMATS``.
        texts: metadata that the file will hold, by keyword.

    Returns:
        the content of the file.
    """
    from PIL import Image, PngImagePlugin

    pictures = [Image.fromarray(frame) for frame in frames]
    comment = "; ".join(f"{name}: {text}" for name, text in texts.items())
    buffer = io.BytesIO()
    options: dict[str, object] = {}
    if suffix == ".png":
        info = PngImagePlugin.PngInfo()
        for name, text in texts.items():
            info.add_itxt(name, text)
        options["pnginfo"] = info
    elif suffix == ".gif":
        options["comment"] = comment.encode()
    else:
        options["xmp"] = comment.encode()
        options["lossless"] = True
    pictures[0].save(
        buffer,
        format=FORMATS[suffix],
        save_all=True,
        append_images=pictures[1:],
        duration=FRAME_MILLISECONDS,
        loop=0,
        **options,
    )
    return buffer.getvalue()
