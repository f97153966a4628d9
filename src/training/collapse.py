"""Whether a training still goes anywhere: finite numbers, and two networks that answer each other.

Three signs of collapse are counted in batches on end: the discriminator tells every real image
from every generated one, it gives all of them the same score, or all generated images are alike.
"""

from typing import Any

import torch
from torch import Tensor

SIGNS = (
    "the discriminator has told every real image from every generated one",
    "the discriminator has given every image the same score",
    "all generated images of a batch have been alike",
)

TOLD_APART = 0  # the place of the first
GREY_LEVEL = 2 / 255  # in the range of tanh


class Watch:
    """Counts the signs of collapse, on the training's device, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._batches = torch.zeros(len(SIGNS), dtype=torch.int64, device=device)

    def count(self, signs: Tensor) -> None:
        """Count one more batch; ``signs`` are 1.0 where ``signs_of_collapse`` saw them, (3,)."""
        self._batches = (self._batches + 1) * (signs >= 1)

    def collapse(self, limit: int) -> tuple[str, int] | None:
        """A sign that has been seen for ``limit`` batches on end or more, and for how many."""
        for sign, batches in zip(SIGNS, self._batches.tolist(), strict=True):
            if batches >= limit:
                return sign, batches
        return None

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"batches": self._batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the counts."""
        self._batches.copy_(state["batches"])


@torch.no_grad()
def signs_of_collapse(on_real: Tensor, on_fake: Tensor, fake: Tensor) -> Tensor:
    """Which signs of ``SIGNS`` one batch shows, as 0.0 or 1.0, float64 (3,).

    Args:
        on_real: the discriminator's logits for real images, (n,).
        on_fake: its logits for generated images, (n,).
        fake: generated images in [-1, 1], (n, 1, size, size). Of a single one nothing can be said.
    """
    told_apart = (on_real.amin() > 0) & (on_fake.amax() < 0)
    scores = torch.cat([on_real, on_fake])
    same_score = scores.amax() == scores.amin()
    alike = (fake.amax(0) - fake.amin(0)).amax() < GREY_LEVEL
    if len(fake) < 2:
        alike = torch.zeros_like(alike)
    return torch.stack([told_apart, same_score, alike]).double()


def all_finite(networks: tuple[torch.nn.Module, ...]) -> bool:
    """Whether every parameter is a finite number."""
    finite = [value.isfinite().all() for network in networks for value in network.parameters()]
    return bool(torch.stack(finite).all())
