"""Programs that are called many times with tensors of the same shapes."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import torch.nn as nn

from pyrovae.capture.auto import AutoCapture, Compile
from pyrovae.capture.graph import Captured
from pyrovae.core.types import Batch

Result = TypeVar("Result")


class Replayed(Generic[Result]):
    """`program(batch)`, captured as `AutoCapture` does, for one set of shapes: once captured, it
    is replayed without the checks that other shapes and changing buffers need.

    Example:
        >>> import torch
        >>> Replayed(lambda batch: [2 * batch["x"]], compile="off")({"x": torch.ones(2)})
        [tensor([2., 2.])]
    """

    def __init__(
        self,
        program: Callable[[Batch], Result],
        modules: Iterable[nn.Module] = (),
        *,
        compile: Compile,
        probe: Callable[[Batch], Batch] | None = None,
    ) -> None:
        self.auto = AutoCapture(program, modules, compile=compile, limit=1, probe=probe)
        self.graph: Captured[Result] | None = None

    def __call__(self, batch: Batch) -> Result:
        if self.graph is not None:
            leaves = self.graph.leaves(batch)  # on a GPU the next call overwrites them
            return self.graph.unflatten(
                [leaf.clone() if leaf.is_cuda else leaf for leaf in leaves]
            )
        result = self.auto(batch)
        self.graph = next(iter(self.auto.captured.values()), None)
        return result


def elsewhere(batch: Batch) -> Batch:
    """Another position q, at which a graph is compared with its program: signs change, sizes too."""
    return {**batch, "q": 0.3 - 0.7 * batch["q"]}
