"""What the modules of a net tell about it: the dims of an input, and which layers use its weights."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch.nn as nn
from torch.nn.modules.conv import _ConvNd

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
PARAMETER_FREE = (
    "pyrovae.nets",
    *(
        f"torch.nn.modules.{kind}"
        for kind in (
            "activation",
            "container",
            "dropout",
            "flatten",
            "linear",
            "normalization",
            "pooling",
        )
    ),
)
"""Packages whose modules, if they have no parameters, do not use the weights of other modules."""


def only_layers_use_parameters(net: nn.Module) -> bool:
    """Whether the parameters are known to be used by linear and convolutional layers alone, each
    by one of them."""
    parts = list(net.modules())
    values = [value for part in parts for value in part._parameters.values() if value is not None]
    return len(set(map(id, values))) == len(values) and all(
        type(part) in LAYERS
        or all(value is None for value in part._parameters.values())
        and type(part).__module__.startswith(PARAMETER_FREE)
        for part in parts
    )


@runtime_checkable
class HasInShape(Protocol):
    """A net that knows the shape of one input."""

    in_shape: Sequence[int]


@runtime_checkable
class HasEventDim(Protocol):
    """A net that knows the number of dims of one input."""

    event_dim: int


def event_dim_of(net: nn.Module) -> int:
    """The dims of one input: as the net tells, else those of a convolution that comes first, else 1."""
    if isinstance(net, HasInShape) and isinstance(net.in_shape, Sequence):
        return len(net.in_shape)
    if isinstance(net, HasEventDim) and isinstance(net.event_dim, int):
        return net.event_dim
    first = next(
        part for part in net.modules() if any(True for _ in part.parameters(recurse=False))
    )
    return len(first.kernel_size) + 1 if isinstance(first, _ConvNd) else 1
