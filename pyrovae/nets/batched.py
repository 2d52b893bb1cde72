"""Any number of batch dims for nets that take exactly one."""

import torch.nn as nn
from torch import Tensor


class Batched(nn.Module):
    """Fold the dims left of the rightmost `event_dim` into one, apply `net`, unfold.

    Shapes: `(*batch, *event)` -> `(*batch, *out_event)`, for a net from `(N, *event)` to `(N,
    *out_event)`.

    Example:
        >>> import torch
        >>> Batched(nn.Conv2d(1, 2, 3, padding=1), event_dim=3)(torch.zeros(5, 3, 1, 4, 4)).shape
        torch.Size([5, 3, 2, 4, 4])
    """

    def __init__(self, net: nn.Module, event_dim: int) -> None:
        super().__init__()
        self.net = net
        self.event_dim = event_dim

    def forward(self, x: Tensor) -> Tensor:
        batch, event = x.shape[: x.dim() - self.event_dim], x.shape[x.dim() - self.event_dim :]
        out = self.net(x.reshape(-1, *event))
        return out.reshape(*batch, *out.shape[1:])
