"""What most heads begin with: a net and the number of event dims of its output."""

import torch.nn as nn


class Head(nn.Module):
    """A conditional distribution with the parameters that `net(*parents)` returns, `(*batch,
    *event)` of `event_dim` event dims."""

    def __init__(self, net: nn.Module, *, event_dim: int = 1) -> None:
        super().__init__()
        self.net = net
        self.event_dim = event_dim
