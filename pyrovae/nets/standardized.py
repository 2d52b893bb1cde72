"""Inputs brought to unit scale inside the net, so that data keep their units outside."""

import torch
import torch.nn as nn
from torch import Tensor


class Standardized(nn.Module):
    """Apply `net` to (x - mean) / scale of its first input; both constants are buffers, saved with
    the weights.

    Shapes: those of `net`; `mean` and `scale` broadcast with x. Raises ValueError for a scale that
    is not positive.

    Example:
        >>> from pyrovae.nets import MLP
        >>> Standardized(MLP(3, [8], 2), mean=0.5, scale=0.25)(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, mean: Tensor | float, scale: Tensor | float) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.get_default_dtype()))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.get_default_dtype()))
        if not (self.scale > 0).all():
            raise ValueError(
                f"the scale is {float(self.scale.min())} somewhere, but must be positive; "
                "for constant features use 1."
            )

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.net((x - self.mean) / self.scale, *others)
