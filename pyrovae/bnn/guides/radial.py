"""The radial posterior over weights."""

import math

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
import torch.nn.functional as F
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from pyrovae.bnn.guides.sites import weight_sites
from pyrovae.core.param_store import register_params
from pyrovae.core.types import Shape


class RadialNormal(TorchDistribution):
    r"""w = mu + sigma o e / ||e|| * r with e ~ N(0, I) and r ~ |N(0, 1)|, over D = numel(mu)
    weights.

    log q(w) = log 2 N(r; 0, 1) - log(2 pi^{D/2} / Gamma(D/2)) - (D - 1) log r - sum log sigma,
    where r = ||(w - mu) / sigma||.
    """

    has_rsample = True
    arg_constraints = {}

    def __init__(self, loc: Tensor, scale: Tensor, batch_shape: Size = Size()) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(batch_shape, loc.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, self.loc.dim())

    @property
    def mean(self) -> Tensor:
        return self.loc.expand(self.batch_shape + self.event_shape)

    def rsample(self, sample_shape: Shape = Size()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        noise = torch.randn_like(self.loc.new_empty(*shape, self.loc.numel()))
        radius = torch.randn_like(self.loc.new_empty(*shape, 1)).abs()
        direction = noise / noise.norm(dim=-1, keepdim=True) * radius
        return self.loc + self.scale * direction.reshape(*shape, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        size = self.loc.numel()
        radius = (
            ((value - self.loc) / self.scale)
            .reshape(*value.shape[: value.dim() - self.loc.dim()], size)
            .norm(dim=-1)
        )
        area = math.log(2) + 0.5 * size * math.log(math.pi) - math.lgamma(0.5 * size)
        half_normal = math.log(2) - 0.5 * radius**2 - 0.5 * math.log(2 * math.pi)
        return half_normal - area - (size - 1) * radius.log() - self.scale.log().sum()

    def expand(self, batch_shape: Shape, _instance: object = None) -> "RadialNormal":
        return RadialNormal(self.loc, self.scale, Size(batch_shape))


class Radial(nn.Module):
    r"""A mean-field guide whose draws lie near their mean, however many weights there are: one
    radius for each tensor.

    A normal of D dims has its mass at distance sqrt(D) from the mean; here the distance is |N(0,
    1)|, in units of sigma.
    Source: Farquhar, Osborne & Gal 2020, "Radial Bayesian neural networks", arXiv:1907.00865, eq.
    4.

    Example:
        >>> from pyrovae import Bayesian
        >>> Radial(Bayesian(nn.Linear(3, 2)))()["w.weight"].shape
        torch.Size([2, 3])
    """

    def __init__(self, net: nn.Module, *, init_scale: float = 1e-2) -> None:
        super().__init__()
        if not init_scale > 0:
            raise ValueError(f"init_scale={init_scale}, but a scale is positive.")
        self.sites = weight_sites(net)
        self.loc = nn.ParameterList(site.unconstrained for site in self.sites)
        self.rho = nn.ParameterList(
            nn.Parameter(torch.full_like(loc, math.log(math.expm1(init_scale))), site.is_real)
            for site, loc in zip(self.sites, self.loc)
        )

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        register_params(self, "guide")
        return {
            site.name: pyro.sample(
                site.name,
                RadialNormal(loc, F.softplus(rho))
                if site.is_real
                else dist.Delta(site.transform(loc), event_dim=loc.dim()),
            )
            for site, loc, rho in zip(self.sites, self.loc, self.rho)
        }
