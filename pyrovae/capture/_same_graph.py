"""Whether two recordings are of the same program."""

from collections.abc import Collection
from operator import attrgetter

import torch
from torch import Tensor, fx

FRESH = (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default)


class GraphRecord:
    """The operations of a recorded graph with their numbers, and the tensors that it closes over.

    made: identities of the tensors that were created during the recording.
    """

    def __init__(self, graph: fx.GraphModule, made: Collection[int]) -> None:
        self.steps: list[str] = []
        self.tensors: list[tuple[Tensor, bool]] = []
        for node in graph.graph.nodes:
            self.steps.append(f"{node.op} {node.name} {node.target} {node.args} {node.kwargs}")
            if node.op == "get_attr":
                tensor = attrgetter(node.target)(graph)
                fresh = id(tensor) in made or all(user.target in FRESH for user in node.users)
                self.tensors.append((tensor, fresh))

    def matches(self, other: "GraphRecord") -> bool:
        """Whether operations and numbers are the same, and tensors: by identity, or by value if
        they are new in each recording."""
        return self.steps == other.steps and all(
            one is another
            or fresh
            and also_fresh
            and (one.dtype, one.device) == (another.dtype, another.device)
            and one.shape == another.shape
            and torch.allclose(one, another, 0, 0, equal_nan=True)
            for (one, fresh), (another, also_fresh) in zip(self.tensors, other.tensors)
        )
