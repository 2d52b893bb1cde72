"""Log-scales that cannot run away."""

import torch
from torch import Tensor, nn


class BoundedScale(nn.Module):
    r"""(loc, bound tanh(s / bound)) with (loc, s) = net(parents): for heads that take the
    exponential of s.

    Near 0 it changes nothing; a scale stays between exp(-bound) and exp(bound), so that a deep
    hierarchy does not diverge at one bad step.

    Shapes: those of `net`, `(*batch, 2 * E1, *rest)`, split along the first of `event_dim` event
    dims. Raises ValueError for a bound that is not positive.
    Source: Vahdat & Kautz 2020, arXiv:2007.03898, their code's soft clamp.

    Example:
        >>> BoundedScale(nn.Identity())(torch.tensor([100.0, 100.0]))
        tensor([100.,   5.])
    """

    def __init__(self, net: nn.Module, *, bound: float = 5.0, event_dim: int = 1) -> None:
        super().__init__()
        if not bound > 0:
            raise ValueError(f"bound={bound}, expected a positive number of nats.")
        self.net = net
        self.bound = bound
        self.event_dim = event_dim

    def forward(self, *parents: Tensor) -> Tensor:
        loc, s = self.net(*parents).chunk(2, -self.event_dim)
        return torch.cat([loc, self.bound * (s / self.bound).tanh()], -self.event_dim)

    def extra_repr(self) -> str:
        return f"bound={self.bound:g}"
