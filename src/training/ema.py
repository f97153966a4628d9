"""Exponential moving average (EMA) of a network's weights, whose images are steadier."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class EMA(Generic[Network]):
    """Averaged copy of a network that is being trained.

    Yazıcı et al., 2019; Karras et al., 2018. At update t the decay is at most (t - 1) / (t + 9), so
    that the random start is soon forgotten.
    """

    def __init__(self, network: Network, decay: float) -> None:
        """Copy the network; ``decay``, below 1, is the fraction of the average an update keeps."""
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay
        self._updates = 0
        self._averaged, self._copied = _split_values(self.network)

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Average in the weights and running statistics that the trained network has now."""
        self._updates += 1
        decay = min(self._decay, (self._updates - 1) / (self._updates + 9))
        averaged, copied = _split_values(network)
        torch._foreach_lerp_(self._averaged, averaged, 1 - decay)
        for mine, other in zip(self._copied, copied, strict=True):
            mine.copy_(other)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged network and the number of updates."""
        return {"network": self.network.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.network.load_state_dict(state["network"])
        self._updates = state["updates"]


def _split_values(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the values to average, weights and running statistics, and those to copy.

    Copied are counters, and the vectors of spectral normalisation, whose mean has no meaning.
    """
    averaged = [weight.detach() for weight in network.parameters()]
    copied: list[Tensor] = []
    for name, value in network.named_buffers():
        is_statistic = value.is_floating_point() and "parametrizations" not in name
        (averaged if is_statistic else copied).append(value)
    return averaged, copied
