"""Independent normals over the weights: Bayes by backprop."""

import math
from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pyrovae.bnn.guides.sites import Site, elementwise, weight_sites
from pyrovae.core.param_store import register_params


class MeanField(nn.Module):
    r"""q(w) = prod_j N(w_j; mu_j, softplus(rho_j)^2), one site for each weight tensor: Bayes by
    backprop.

    `net` is a `Bayesian` net, or any module that holds some. mu starts at the net's own weights,
    every standard deviation at `init_scale`. A scale that the prior draws (`hierarchical`,
    `horseshoe`) is a log-normal, or a point where the prior says so.

    Sites are plain normals outside the plate, so KLs have closed forms (`TraceMeanField_ELBO`),
    and local reparameterisation applies (`pyrovae.LocalReparameterization`).
    Source: Blundell et al. 2015, arXiv:1505.05424, section 3.2.

    Example:
        >>> from pyrovae import Bayesian
        >>> guide = MeanField(Bayesian(nn.Linear(3, 2)))
        >>> sorted((name, tuple(value.shape)) for name, value in guide().items())
        [('w.bias', (2,)), ('w.weight', (2, 3))]
    """

    is_independent_normal = True
    """Each real-valued site is one normal, whose draw serves for nothing but the model."""

    def __init__(self, net: nn.Module, *, init_scale: float = 1e-2) -> None:
        super().__init__()
        if not init_scale > 0:
            raise ValueError(f"init_scale={init_scale}, but a standard deviation is positive.")
        self.sites = elementwise(weight_sites(net))
        self.loc = nn.ParameterList(site.unconstrained for site in self.sites)
        self.rho = nn.ParameterList(
            nn.Parameter(torch.full_like(loc, math.log(math.expm1(init_scale))), not site.point)
            for site, loc in zip(self.sites, self.loc)
        )

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        register_params(self, "guide")
        return {
            site.name: pyro.sample(site.name, _distribution(site, loc, rho))
            for site, loc, rho in zip(self.sites, self.loc, self.rho)
        }

    def moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and standard deviation of each real-valued site."""
        return {
            site.name: (loc, F.softplus(rho))
            for site, loc, rho in zip(self.sites, self.loc, self.rho)
            if site.is_real
        }

    @torch.no_grad()
    def set(self, loc: Tensor, scale: Tensor) -> "MeanField":
        """Put moments (P,) of all sites in their order in place of the parameters, on the
        unconstrained scale."""
        sizes = [value.numel() for value in self.loc]
        for index, (mean, spread) in enumerate(zip(loc.split(sizes), scale.split(sizes))):
            self.loc[index].copy_(mean.reshape(self.loc[index].shape))
            self.rho[index].copy_(_inverse_softplus(spread).reshape(self.loc[index].shape))
        return self

    @torch.no_grad()
    def start_at(self, moments: Mapping[str, tuple[Tensor, Tensor]]) -> "MeanField":
        """Put means and standard deviations, as `moments()` of another guide gives them, in place
        of the parameters.

        Sites that `moments` does not name stay as they are, and names without a site (the heads of
        other tasks) are ignored.
        Raises: ValueError for another shape than the site's.

        Example:
            >>> from pyrovae import Bayesian
            >>> guide = MeanField(Bayesian(nn.Linear(3, 2))).start_at({"w.bias": (torch.ones(2), torch.full((2,), 0.5))})
            >>> guide.moments()["w.bias"][0].tolist()
            [1.0, 1.0]
        """
        for site, loc, rho in zip(self.sites, self.loc, self.rho):
            if site.name not in moments or not site.is_real:
                continue
            mean, spread = moments[site.name]
            if mean.shape != loc.shape or spread.shape != loc.shape:
                raise ValueError(
                    f"the moments of site {site.name!r} have shapes {tuple(mean.shape)} and "
                    f"{tuple(spread.shape)}, expected {tuple(loc.shape)} for both. Give nets that differ names "
                    "that differ: Bayesian(net, prior, name)."
                )
            loc.copy_(mean)
            rho.copy_(_inverse_softplus(spread))
        return self


def _inverse_softplus(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))


def _distribution(site: Site, loc: Tensor, rho: Tensor) -> dist.TorchDistribution:
    if site.point:
        return dist.Delta(site.transform(loc), event_dim=loc.dim())
    fn = dist.Normal(loc, F.softplus(rho))
    return (fn if site.is_real else dist.TransformedDistribution(fn, [site.transform])).to_event(
        loc.dim()
    )
