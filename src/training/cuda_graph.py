"""A training step recorded as one CUDA graph, which the GPU then repeats.

The networks are small: a step is some hundred to a thousand kernels of a few microseconds, and to
launch them one by one takes the processor several times as long as the GPU needs for them. A
recorded step is launched at once. Its kernels and their order are those of the step itself, so
its numbers are too.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

WARM_UP = 3  # steps before: libraries choose their kernels, and optimizers make their state
# From real images, (n, 1, size, size), to what a step tells of them.
Step = Callable[[Tensor], tuple[Tensor, Tensor]]


class RecordedStep:
    """A step that is recorded after its first few calls.

    What it returns is overwritten by the next call. The step may neither wait for the GPU nor
    replace a tensor that outlives it: weights, states of optimizers and running values are changed
    in place.
    """

    def __init__(self, step: Step, streams: Iterable[torch.Generator]) -> None:
        """``streams`` are all the sources of randomness that the step draws from."""
        self._step, self._streams = step, tuple(streams)
        self._side = torch.cuda.Stream()
        self._before = WARM_UP
        self._graph: torch.cuda.CUDAGraph | None = None
        self._real: Tensor
        self._told: tuple[Tensor, Tensor]

    def __call__(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """The step on real images, which are of one shape in all calls."""
        if self._before:
            self._before -= 1
            return self._run(real)
        if self._graph is None:
            self._graph = self._record(real)
        self._real.copy_(real)
        self._graph.replay()
        return self._told

    def _run(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """The step, kernel by kernel, where it will be recorded: not on the default stream."""
        main = torch.cuda.current_stream()
        self._side.wait_stream(main)
        with torch.cuda.stream(self._side):
            told = self._step(real)
        main.wait_stream(self._side)
        return told

    def _record(self, real: Tensor) -> torch.cuda.CUDAGraph:
        """Record the step; nothing is computed."""
        self._real = real.clone()
        graph = torch.cuda.CUDAGraph()
        for stream in self._streams:
            graph.register_generator_state(stream)
        with torch.cuda.graph(graph, stream=self._side):
            self._told = self._step(self._real)
        return graph
