"""Types of the values that pass between the engine and the programs, losses and guides of
users."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, cast, runtime_checkable

import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution

Batch = Mapping[str, Tensor]
"""Data by the name of their site, each `(B, *event)`."""

Site = dict[str, Any]
"""A site of Pyro: `name`, `type`, `fn`, `value`, `is_observed`, `scale`, `mask`,
`cond_indep_stack`, `infer` and the keys that handlers add. Pyro's own `Message` declares most of
them optional.
"""


Shape = torch.Size | list[int] | tuple[int, ...]
"""The types that torch accepts as a shape."""


def nodes_of(trace: Trace) -> dict[str, Site]:
    """The sites of a trace by name: `trace.nodes` itself."""
    return cast("dict[str, Site]", trace.nodes)


def sum_of(values: Iterable[Tensor]) -> Tensor:
    """`sum` of tensors; without any it is the number 0, which can be added to a tensor."""
    return cast(Tensor, sum(values))


def base_of(fn: Distribution) -> Distribution | None:
    """The distribution that another one wraps: one of independent elements, a masked, expanded,
    transformed or zero-inflated one; None for the others."""
    # not by class, since users write wrappers too; not by a protocol, which costs 40 us a site
    return getattr(fn, "base_dist", None)


@runtime_checkable
class LocalGuide(Protocol):
    """A guide that is refined for each batch."""

    def for_batch(self, batch: Mapping[str, Tensor]) -> Callable:
        """The guide for these data."""


@runtime_checkable
class HasNumData(Protocol):
    """A loss that scales its terms by the number of data N."""

    num_data: int | None


@runtime_checkable
class HasWrapped(Protocol):
    """A callable that `functools.update_wrapper` made of another one."""

    __wrapped__: Callable


class PlateFrame(Protocol):
    """An open plate, as it appears in the `cond_indep_stack` of a site."""

    name: str
    dim: int
    size: int
    full_size: int | None
