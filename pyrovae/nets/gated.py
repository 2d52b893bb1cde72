"""Fully connected nets with multiplicative gates."""

from collections.abc import Sequence

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pyrovae.nets.mlp import Shape, as_shape, flatten, join


class GatedMLP(nn.Module):
    r"""Layers h_{l+1} = (A_l h_l + a_l) * sigmoid(B_l h_l + b_l), then a linear output.

    Shapes and initialisation: those of `MLP`.
    Source: Dauphin et al. 2017, arXiv:1612.08083, eq. 1; in VAEs Tomczak & Welling 2018,
    arXiv:1705.07120, section 4.

    Example:
        >>> import torch
        >>> GatedMLP(2, [8], (1, 4, 4))(torch.zeros(5, 3, 2)).shape
        torch.Size([5, 3, 1, 4, 4])
    """

    def __init__(self, in_shape: Shape, hidden: Sequence[int], out_shape: Shape) -> None:
        super().__init__()
        self.in_shape, self.out_shape = as_shape(in_shape), as_shape(out_shape)
        sizes = [self.in_shape.numel(), *hidden]
        gated = [nn.Linear(fan_in, 2 * fan_out) for fan_in, fan_out in zip(sizes[:-1], sizes[1:])]
        layers = [*gated, nn.Linear(sizes[-1], self.out_shape.numel())]
        self.layers = nn.ModuleList(layers)
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, *xs: Tensor) -> Tensor:
        h = join(xs) if len(xs) > 1 else flatten(xs[0], self.in_shape)
        for layer in self.layers[:-1]:
            h = F.glu(layer(h), dim=-1)
        h = self.layers[-1](h)
        return h if len(self.out_shape) == 1 else h.unflatten(-1, self.out_shape)
