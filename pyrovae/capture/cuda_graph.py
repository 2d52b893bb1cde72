"""A function of tensors as one CUDA graph, which the host launches by a single call."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyrovae.core.errors import CaptureError, first_line

WARM_UPS = 3
"""Calls before the capture, in which libraries initialise themselves."""
Epilogue = Callable[[list[Tensor]], object]
"""A function of the results that is captured in the same graph, e.g. an optimiser's update; it
must have run once before."""


def record_cuda_graph(
    run: Callable[..., list[Tensor]], inputs: list[Tensor], num_copied: int
) -> "CudaGraphRunner":
    """A runner that has captured `run` and replayed it once.

    Raises: CaptureError for operations that a CUDA graph cannot hold, e.g. a copy from the
    host."""
    result = CudaGraphRunner(run, num_copied)
    try:
        result(*inputs)
    except Exception as error:
        raise CaptureError(
            f"its graph cannot be captured as a CUDA graph ({type(error).__name__}: {first_line(error)})."
        ) from error
    return result


class CudaGraphRunner:
    """Capture `run(*inputs)` as a CUDA graph and replay it; the first `num_copied` inputs are
    copied to static buffers.

    Re-captures when another input's address or the epilogue changes. Results lie in static buffers
    too: the next call overwrites them. Random numbers come from the device's default generator, as
    without a graph. Warm-up calls run on copies of what `run` writes to, so that they leave no
    trace.
    """

    def __init__(self, run: Callable[..., list[Tensor]], num_copied: int) -> None:
        self.run, self.num_copied = run, num_copied
        self.fixed: list[Tensor] = []
        self.places: list[int] | None = None
        self.graphs: dict[Epilogue | None, tuple[torch.cuda.CUDAGraph, list[Tensor]]] = {}

    def __call__(self, *inputs: Tensor, epilogue: Epilogue | None = None) -> list[Tensor]:
        places = [value.data_ptr() for value in inputs[self.num_copied :]]
        if places != self.places:
            self._warm_up(inputs)
            self.places = places
        if epilogue not in self.graphs:
            self._record(epilogue)
        for place, value in zip(self.fixed, inputs[: self.num_copied]):
            place.copy_(value, non_blocking=True)
        graph, results = self.graphs[epilogue]
        graph.replay()
        return results

    def _warm_up(self, inputs: tuple[Tensor, ...]) -> None:
        self.graphs.clear()
        self.fixed = [
            *(value.clone() for value in inputs[: self.num_copied]),
            *inputs[self.num_copied :],
        ]
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

    def _record(self, epilogue: Epilogue | None) -> None:
        if epilogue is not None:  # earlier epilogues are not used again
            self.graphs = {key: value for key, value in self.graphs.items() if key is None}
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = self.run(*self.fixed)
            if epilogue is not None:
                epilogue(results)
        self.graphs[epilogue] = graph, results
