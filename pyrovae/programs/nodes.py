"""The parts of programs: sample sites and shared values, each with the names of its parents."""

from collections.abc import Mapping
from typing import cast

import torch.nn as nn
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.runtime import InferDict
from torch import Tensor

from pyrovae.programs.adapter import as_pyro


class Node(nn.Module):
    r"""One sample site: a conditional and the names of the values it depends on, p(site |
    parents).

    `conditional(*parents)` returns a distribution (Pyro's, torch's or zuko's) whose batch shape
    broadcasts with `(K, B)` and whose event shape is that of one datum. `infer` goes to
    `pyro.sample` as it is.

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> Node(NormalHead(MLP(4, [8], 2 * 2)), "x")({"x": torch.zeros(3, 4)}).batch_shape
        torch.Size([3])
    """

    def __init__(self, conditional: nn.Module, *parents: str, infer: dict | None = None) -> None:
        super().__init__()
        if not isinstance(conditional, nn.Module):
            raise TypeError(
                f"a Node takes an nn.Module that returns a distribution, got {type(conditional).__name__}. "
                "Wrap a fixed distribution in a module whose forward() returns it."
            )
        if not all(isinstance(parent, str) for parent in parents):
            raise TypeError(f"the parents of a Node are names of sites or data, got {parents!r}.")
        self.conditional = conditional
        self.parents = parents
        self.infer = cast(InferDict, infer or {})

    def forward(self, values: Mapping[str, Tensor]) -> TorchDistributionMixin:
        return as_pyro(self.conditional(*(values[parent] for parent in self.parents)))

    def extra_repr(self) -> str:
        return f"parents={', '.join(self.parents)}" if self.parents else ""


class Value(nn.Module):
    r"""A tensor `net(*parents)` that nodes share and that is computed once; it is not a site and
    has no density.

    Example:
        >>> import torch
        >>> from pyrovae import Guide
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> guide = Guide(h=Value(MLP(4, [8], 8), "x"), z2=Node(NormalHead(MLP(8, [], 2)), "h"),
        ...               z1=Node(NormalHead(MLP(8 + 1, [], 2)), "h", "z2"))
        >>> sorted(guide(x=torch.zeros(3, 4)))
        ['z1', 'z2']
    """

    def __init__(self, net: nn.Module, *parents: str) -> None:
        super().__init__()
        if not all(isinstance(parent, str) for parent in parents) or not parents:
            raise TypeError(
                f"a Value takes a net and the names of what it depends on, got {parents!r}."
            )
        self.net = net
        self.parents = parents

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        return self.net(*(values[parent] for parent in self.parents))

    def extra_repr(self) -> str:
        return f"parents={', '.join(self.parents)}"


class Global(Node):
    r"""A sample site outside the plate over data: one value for all of them, e.g. the noise of a
    regression.

    It is sampled before the nodes in the plate and may depend on other `Global` nodes alone. Its
    value is `(K, 1, *event)` under particles, which broadcasts with values that have a row for
    each datum.

    Example:
        >>> import torch
        >>> from pyrovae import Model
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> from pyrovae.priors import StandardNormal
        >>> model = Model(a=Global(StandardNormal(1)), x=Node(NormalHead(MLP(1, [8], 2 * 4)), "a"))
        >>> model(num=3)["a"].shape
        torch.Size([1])
    """
