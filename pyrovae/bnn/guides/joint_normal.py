"""One normal over all weights together: full or low rank, fitted by SVI or by other means (SWAG,
Laplace)."""

import math

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import transform_to
from torch.distributions.constraints import lower_cholesky

from pyrovae.bnn.guides.sites import elementwise, weight_sites
from pyrovae.core.param_store import register_params

FLAT = "_weights."
"""The auxiliary site of all weights in one vector is this and the name of the first."""


class JointNormal(nn.Module):
    r"""q(w) = N(mu, C) over all weights: C = F F^T + diag(d^2) of `rank`, or dense (P, P) for
    `rank=None`.

    mu starts at the net's own weights, every standard deviation at `init_scale`. Sites on a
    half-line enter through their logarithm (Pyro's `biject_to`), with its Jacobian.

    Example:
        >>> from pyrovae import Bayesian
        >>> JointNormal(Bayesian(nn.Linear(3, 2)), rank=2)()["w.weight"].shape
        torch.Size([2, 3])
    """

    def __init__(
        self, net: nn.Module, *, rank: int | None = None, init_scale: float = 1e-2
    ) -> None:
        super().__init__()
        if not init_scale > 0 or (rank is not None and rank < 1):
            raise ValueError(
                f"init_scale={init_scale}, rank={rank}, expected a positive scale and a rank >= 1 or None."
            )
        self.sites, self.rank = elementwise(weight_sites(net)), rank
        self.loc = nn.Parameter(torch.cat([site.unconstrained.flatten() for site in self.sites]))
        size = len(self.loc)
        if rank is None:
            self.tril = nn.Parameter(math.log(init_scale) * torch.eye(size, dtype=self.loc.dtype))
        else:
            self.rho = nn.Parameter(torch.full_like(self.loc, math.log(math.expm1(init_scale))))
            self.factor = nn.Parameter(
                init_scale / math.sqrt(rank) * torch.randn(size, rank, dtype=self.loc.dtype)
            )

    def distribution(self) -> dist.TorchDistribution:
        """q on the vector of all weights."""
        if self.rank is None:
            return dist.MultivariateNormal(
                self.loc, scale_tril=transform_to(lower_cholesky)(self.tril)
            )
        return dist.LowRankMultivariateNormal(self.loc, self.factor, F.softplus(self.rho) ** 2)

    @torch.no_grad()
    def set(
        self,
        loc: Tensor,
        *,
        scale_tril: Tensor | None = None,
        factor: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> "JointNormal":
        """Put moments in place of the parameters: `scale_tril` for a full rank, `factor` and
        `scale` for a low one."""
        if self.rank is None and scale_tril is not None:
            self.tril.copy_(transform_to(lower_cholesky).inv(scale_tril))
        elif self.rank is not None and factor is not None and scale is not None:
            self.factor.copy_(factor)
            self.rho.copy_(scale + torch.log(-torch.expm1(-scale)))
        else:
            raise ValueError(
                f"moments are missing for rank={self.rank}: give scale_tril for a full rank, factor and scale "
                "for a low one."
            )
        self.loc.copy_(loc)
        return self

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        register_params(self, "guide")
        flat = pyro.sample(
            FLAT + self.sites[0].name, self.distribution(), infer={"is_auxiliary": True}
        )
        values, start = {}, 0
        for site in self.sites:
            stop = start + site.initial.numel()
            raw = flat[..., start:stop].reshape(flat.shape[:-1] + site.initial.shape)
            start, dims = stop, site.initial.dim()
            value = site.transform(raw)
            density = (
                0.0
                if site.is_real
                else -_sum(site.transform.log_abs_det_jacobian(raw, value), dims)
            )
            values[site.name] = pyro.sample(
                site.name, dist.Delta(value, log_density=density, event_dim=dims)
            )
        return values


def _sum(value: Tensor, dims: int) -> Tensor:
    return value.sum(tuple(range(-dims, 0))) if dims else value
