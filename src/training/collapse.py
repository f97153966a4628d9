"""Signs that a training has collapsed: the two networks no longer answer each other.

Three signs are counted in consecutive batches: the discriminator separates all real from all
generated images, it gives all of them the same logit, or all generated images are alike.
"""

from typing import Any

import torch
from torch import Tensor

SIGNS = (
    "the discriminator has separated all real from all generated images",
    "the discriminator has given all images the same logit",
    "all generated images of a batch have been alike",
)

SEPARATED = 0  # index of the first sign
GREY_LEVEL = 2 / 255  # in the range of tanh


class CollapseMonitor:
    """Counter of consecutive batches with each sign of collapse.

    It counts on the training's device, without waiting for it.
    """

    def __init__(self, device: torch.device) -> None:
        self._batches = torch.zeros(len(SIGNS), dtype=torch.int64, device=device)

    def update(self, signs: Tensor) -> None:
        """Update the counts with the ``collapse_signs`` of one batch, (3,).

        In a group these are means over the processes, so a sign counts only at 1.0,
        where all saw it.
        """
        self._batches = (self._batches + 1) * (signs >= 1)

    def find_sign(self, patience: int) -> tuple[str, int] | None:
        """Return a sign that at least the last ``patience`` batches showed, and how many did."""
        for sign, batches in zip(SIGNS, self._batches.tolist(), strict=True):
            if batches >= patience:
                return sign, batches
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"batches": self._batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counts."""
        self._batches.copy_(state["batches"])


@torch.no_grad()
def collapse_signs(real_logits: Tensor, fake_logits: Tensor, fake: Tensor) -> Tensor:
    """Detect the ``SIGNS`` that one batch shows.

    Args:
        real_logits: the discriminator's logits of real images, (n,).
        fake_logits: its logits of generated images, (n,).
        fake: generated images in [-1, 1], (n, 1, size, size); a batch of one image is
            never called alike.

    Returns:
        1.0 for each sign that is there, else 0.0; float64 (3,).
    """
    separated = (real_logits.amin() > 0) & (fake_logits.amax() < 0)
    logits = torch.cat([real_logits, fake_logits])
    same_logit = logits.amax() == logits.amin()
    alike = (fake.amax(0) - fake.amin(0)).amax() < GREY_LEVEL
    if len(fake) < 2:
        alike = torch.zeros_like(alike)
    return torch.stack([separated, same_logit, alike]).double()


def all_finite(networks: tuple[torch.nn.Module, ...]) -> bool:
    """Check that every parameter of the networks is a finite number."""
    finite = [value.isfinite().all() for network in networks for value in network.parameters()]
    return bool(torch.stack(finite).all())
