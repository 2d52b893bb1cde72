"""Torch's compiler for graphs of operations."""
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, fx

from pyrovae.errors import CaptureError, first_line


def compile_graph(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., list[Tensor]]:
    """The graph compiled by inductor for such inputs, with torch's random numbers. Raises: CaptureError where it fails."""
    import torch._inductor.config as config
    from torch._inductor.compile_fx import compile_fx

    # its own random numbers are another stream than torch's, and gave NaN beside normalisation layers
    with warnings.catch_warnings(), config.patch(fallback_random=True), torch.no_grad():
        for category in (DeprecationWarning, FutureWarning):  # the compiler's own
            warnings.simplefilter("ignore", category)
        try:
            run = compile_fx(graph, inputs)
            run(*inputs)  # compiles
            return run
        except Exception as error:
            raise CaptureError(f"the compiler failed ({type(error).__name__}: {first_line(error)})") from error
