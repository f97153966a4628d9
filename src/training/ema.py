"""The exponential moving average of a network's weights, whose images are steadier.

Yazıcı et al., 2019; Karras et al., 2018. Early on the average is over a tenth of the updates that
there were, so that the random start is soon forgotten.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """The average of a network that is being trained."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """``decay`` is the share of the average that an update leaves, below 1."""
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay
        self._updates = 0
        self._averaged, self._copied = _values(self.network)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network's weights and running statistics after an update."""
        self._updates += 1
        decay = min(self._decay, (self._updates - 1) / (self._updates + 9))
        averaged, copied = _values(network)
        torch._foreach_lerp_(self._averaged, averaged, 1 - decay)
        for mine, other in zip(self._copied, copied, strict=True):
            mine.copy_(other)

    def state_dict(self) -> dict[str, Any]:
        """The averaged network and the number of updates."""
        return {"network": self.network.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the average."""
        self.network.load_state_dict(state["network"])
        self._updates = state["updates"]


def _values(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """What is averaged, weights and running statistics; and what is only copied.

    The latter are counters, and the vectors of spectral normalisation, whose mean has no meaning.
    """
    averaged = [weight.detach() for weight in network.parameters()]
    copied: list[Tensor] = []
    for name, value in network.named_buffers():
        running = value.is_floating_point() and "parametrizations" not in name
        (averaged if running else copied).append(value)
    return averaged, copied
