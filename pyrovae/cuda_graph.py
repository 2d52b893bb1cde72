"""A function of tensors as one CUDA graph, which the host starts by a single call."""
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UPS = 3
"""Calls before the recording, in which libraries set themselves up."""


class Recorded:
    """`run(*inputs)` recorded and replayed: the first `num_copied` inputs are copied to fixed places, the others must stay.

    Where one of the others lies elsewhere than before, the graph is recorded anew. Results lie in fixed places too: the
    next call overwrites them. Random numbers come from the device's default generator, as without a graph. Calls before the
    recording happen on copies of what `run` writes to, so that they leave no trace.
    """

    def __init__(self, run: Callable[..., list[Tensor]], num_copied: int) -> None:
        self.run, self.num_copied = run, num_copied
        self.fixed: list[Tensor] = []
        self.places: list[int] = []
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        copied, kept = inputs[:self.num_copied], inputs[self.num_copied:]
        if self.graph is None or [value.data_ptr() for value in kept] != self.places:
            self._record(inputs)
            self.places = [value.data_ptr() for value in kept]
        for place, value in zip(self.fixed, copied):
            place.copy_(value, non_blocking=True)
        self.graph.replay()
        return self.results

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self.fixed = [*(value.clone() for value in inputs[:self.num_copied]), *inputs[self.num_copied:]]
        before = [value.clone() for value in self.fixed]
        state = torch.cuda.get_rng_state(inputs[0].device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.run(*self.fixed)
        torch.cuda.current_stream().wait_stream(stream)
        for value, old in zip(self.fixed, before):
            value.copy_(old)
        torch.cuda.set_rng_state(state, inputs[0].device)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.results = self.run(*self.fixed)
