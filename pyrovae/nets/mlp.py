"""The multilayer perceptron."""

import math
from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Size, Tensor

Shape = int | Sequence[int]


def as_shape(shape: Shape) -> Size:
    """An int is a vector's length; a sequence is taken as it is."""
    return Size([shape]) if isinstance(shape, int) else Size(shape)


class MLP(nn.Module):
    r"""Fully connected net, h_{l+1} = activation(W_l h_l + b_l), with a linear output.

    Shapes: inputs `(*batch, *in_shape)`; several inputs (then `in_shape` is the sum of their flat
    sizes, each a vector) broadcast over `batch` and are concatenated; output `(*batch,
    *out_shape)`. Any number of batch dims, so particles need no care. Initialised by Glorot &
    Bengio (2010), AISTATS, eq. 16, with zero biases.

    Example:
        >>> MLP(2, [8], (1, 4, 4))(torch.zeros(5, 3, 2)).shape
        torch.Size([5, 3, 1, 4, 4])
    """

    def __init__(
        self,
        in_shape: Shape,
        hidden: Sequence[int],
        out_shape: Shape,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = as_shape(in_shape), as_shape(out_shape)
        sizes = [math.prod(self.in_shape), *hidden, math.prod(self.out_shape)]
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:]):
            layers += [nn.Linear(fan_in, fan_out), activation()]
        self.layers = nn.Sequential(*layers[:-1])
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, *xs: Tensor) -> Tensor:
        h = self.layers(join(xs) if len(xs) > 1 else flatten(xs[0], self.in_shape))
        return h if len(self.out_shape) == 1 else h.unflatten(-1, self.out_shape)


def flatten(x: Tensor, shape: Size) -> Tensor:
    """`(*batch, *shape)` -> `(*batch, prod(shape))`; raises ValueError where x does not end in
    `shape`."""
    if x.shape[-len(shape) :] != shape:
        raise ValueError(
            f"the net takes inputs of shape (*batch, {', '.join(map(str, shape))}), got {tuple(x.shape)}."
        )
    return x.flatten(-len(shape)) if len(shape) > 1 else x


def join(xs: Sequence[Tensor]) -> Tensor:
    """Concatenate vectors along the last dim after broadcasting their batch dims."""
    batch = torch.broadcast_shapes(*(x.shape[:-1] for x in xs))
    return torch.cat([x.expand(*batch, x.shape[-1]) for x in xs], dim=-1)
