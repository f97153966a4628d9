"""The group of processes that train one pair of networks together, each on a part of every batch.

Every process holds the same networks. Noise, dropout and the order of the images belong to the
whole batch: each process draws them for all of it and takes its part, so that what is learned
depends on the batch and not on how it was split, up to the rounding of sums.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..common.errors import UserError


@dataclass(frozen=True)
class ProcessGroup:
    """Processes that train together; ``rank`` is this one's, and the first one writes and logs."""

    rank: int = 0
    size: int = 1

    @classmethod
    @contextmanager
    def init(cls, device: torch.device, rendezvous_file: Path | None = None) -> Iterator[Self]:
        """Join the processes that torchrun started, and leave them at the end.

        Tensors on the CPU travel by gloo and those on a GPU by NCCL.

        Args:
            device: the device of this process.
            rendezvous_file: a file by which processes of one host find each other; without it they
                use the port that torchrun chose, which is open to the network.
        """
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        if rendezvous_file is None:
            dist.init_process_group(backend)
        else:
            rank, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
            dist.init_process_group(
                backend, f"file://{rendezvous_file}", rank=rank, world_size=size
            )
        try:
            yield cls(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and logs."""
        return self.rank == 0

    def local_batch_size(self, batch_size: int) -> int:
        """Return how many images of each batch are this process's.

        Raises:
            UserError: if the processes cannot share a batch evenly.
        """
        if batch_size % self.size:
            raise UserError(
                f"batch_size: {self.size} processes cannot share {batch_size} images evenly; "
                "set it to a multiple"
            )
        return batch_size // self.size

    def local_part(self, local_batch_size: int) -> slice:
        """Return this process's indices in a batch of which every process has so many."""
        return slice(self.rank * local_batch_size, (self.rank + 1) * local_batch_size)

    def check_networks(self, networks: Iterable[nn.Module]) -> None:
        """Refuse networks that several processes cannot train together.

        Raises:
            UserError: for batch normalisation, whose statistics each process would have of its own.
        """
        if self.size == 1:
            return
        for network in networks:
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    raise UserError(
                        f"{type(network).__name__} normalises by batch ({type(module).__name__}), "
                        "which is not synchronised between processes; "
                        "set train.processes to 1 or use another normalisation"
                    )

    def average_gradients(self, network: nn.Module) -> None:
        """Replace each gradient by its mean over the processes, in one message."""
        if self.size == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        _communicate(lambda: dist.all_reduce(flat))
        flat /= self.size
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def mean(self, values: Tensor) -> Tensor:
        """Average each value over the processes."""
        if self.size == 1:
            return values
        _communicate(lambda: dist.all_reduce(values))
        return values / self.size

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.uint8)
        _communicate(lambda: dist.all_reduce(flags, dist.ReduceOp.MAX))
        return bool(flags[0])

    def broadcast(self, content: bytes | None) -> bytes | None:
        """Return the first process's content in every process."""
        if self.size == 1:
            return content
        size = torch.tensor([-1 if content is None else len(content)])
        _communicate(lambda: dist.broadcast(size, 0))
        if size < 0:
            return None
        buffer = torch.empty(int(size), dtype=torch.uint8)
        if self.is_first and content:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        _communicate(lambda: dist.broadcast(buffer, 0))
        return buffer.numpy().tobytes()

    def check_same(self, what: str, text: str) -> None:
        """Refuse to go on unless ``text`` is the same in every process.

        Raises:
            UserError: in every process, if any differs from the first one.
        """
        mine = text.encode()
        differs = self.broadcast(mine) != mine
        if self.any(differs):
            raise UserError(f"the processes do not have the same {what}")


SINGLE_PROCESS = ProcessGroup()


def _communicate(call: Callable[[], object]) -> None:
    """Exchange tensors with the other processes.

    Raises:
        UserError: if one of them is gone.
    """
    try:
        call()
    except RuntimeError as error:  # gloo's and NCCL's
        raise UserError(
            "the connection to another training process broke, since that process has ended: "
            f"{str(error).splitlines()[0][:200]}"
        ) from error
