"""A training step captured as one CUDA graph, which the GPU then replays.

The networks are small: a step is some hundred to a thousand kernels of a few microseconds, and to
launch them one by one takes the processor several times as long as the GPU needs for them. A
captured step is launched at once. Its kernels and their order are those of the step itself, so
its numbers are too.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

WARMUP_STEPS = 3  # before the capture: libraries choose kernels, and optimizers make their state
# From real images, (n, 1, size, size), to the step's losses and signs of collapse.
Step = Callable[[Tensor], tuple[Tensor, Tensor]]


class GraphedStep:
    """Training step that is captured as a CUDA graph after its first few calls.

    What it returns is overwritten by the next call. The step may neither wait for the GPU nor
    replace a tensor that outlives it: weights, states of optimizers and running values are changed
    in place.
    """

    def __init__(self, step: Step, streams: Iterable[torch.Generator]) -> None:
        """Prepare the capture; ``streams`` are all random number generators the step draws from."""
        self._step, self._streams = step, tuple(streams)
        self._side_stream = torch.cuda.Stream()
        self._warmup_left = WARMUP_STEPS
        self._graph: torch.cuda.CUDAGraph | None = None
        self._real: Tensor
        self._outputs: tuple[Tensor, Tensor]

    def __call__(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Do the step on real images, which have the same shape in all calls."""
        if self._warmup_left:
            self._warmup_left -= 1
            return self._run(real)
        if self._graph is None:
            self._graph = self._capture(real)
        self._real.copy_(real)
        self._graph.replay()
        return self._outputs

    def _run(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Run the step kernel by kernel on the side stream, where it will be captured."""
        main = torch.cuda.current_stream()
        self._side_stream.wait_stream(main)
        with torch.cuda.stream(self._side_stream):
            outputs = self._step(real)
        main.wait_stream(self._side_stream)
        return outputs

    def _capture(self, real: Tensor) -> torch.cuda.CUDAGraph:
        """Capture the step; nothing is computed."""
        self._real = real.clone()
        graph = torch.cuda.CUDAGraph()
        for stream in self._streams:
            graph.register_generator_state(stream)
        with torch.cuda.graph(graph, stream=self._side_stream):
            self._outputs = self._step(self._real)
        return graph
