"""Priors at the deterministic end of the scale."""

import pyro.distributions as dist
import torch
import torch.nn as nn
from pyro.distributions import constraints


class Flat(nn.Module):
    r"""The improper p(z) = 1: with a `DeltaHead` as guide the negative ELBO is an autoencoder's
    reconstruction error.

    It has no draws, so neither samples nor log p(x) exist for such a model.

    Shapes: `() -> distribution` with batch `()` and event `shape`.

    Example:
        >>> Flat(2)().log_prob(torch.zeros(5, 2))
        tensor([0., 0., 0., 0., 0.])
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = torch.Size(shape)

    def forward(self) -> dist.ImproperUniform:
        return dist.ImproperUniform(
            constraints.independent(constraints.real, len(self.shape)), torch.Size(), self.shape
        )


class Laplace(nn.Module):
    r"""p(z) = \prod_d exp(-|z_d| / scale) / (2 scale): under a `DeltaHead` an L1 penalty, the
    sparse autoencoder.

    Shapes: `() -> distribution` with batch `()` and event `shape`. Raises ValueError for a scale
    that is not positive.

    Example:
        >>> Laplace(2)().sample((5,)).shape
        torch.Size([5, 2])
    """

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, *shape: int, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale={scale}, but a scale is positive.")
        self.register_buffer("loc", torch.zeros(shape))
        self.register_buffer("scale", torch.full(shape, float(scale)))

    def forward(self) -> dist.Independent:
        return dist.Laplace(self.loc, self.scale).to_event(self.loc.dim())
