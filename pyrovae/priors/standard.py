"""The standard normal prior."""

import pyro.distributions as dist
import torch
import torch.nn as nn


class StandardNormal(nn.Module):
    r"""p(z) = N(z; 0, I).

    Shapes: `() -> distribution` with batch `()` and event `shape`.
    Source: Kingma & Welling 2014, arXiv:1312.6114, section 3.

    Example:
        >>> StandardNormal(2)().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def forward(self) -> dist.Independent:
        return dist.Normal(self.loc, self.scale).to_event(self.loc.dim())
