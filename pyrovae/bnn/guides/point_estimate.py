"""One value for each weight: maximum a posteriori, and the state of a sampler."""

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.guides.sites import Site, weight_sites
from pyrovae.core.param_store import register_params


class PointEstimate(nn.Module):
    r"""q(w) = delta(w - mu): `ElboLoss` is then -(log p(y | mu) + log p(mu)) / N, whose minimum is
    the MAP estimate.

    mu starts at the net's own weights. A delta has no density on weights: its loss is no bound on
    the evidence.
    jacobian: take the density of positive sites (a noise variance, scales of the prior) on the
    logarithmic scale on which mu moves: for samplers, whose draws must follow the posterior of
    what they move.

    Example:
        >>> from pyrovae import Bayesian
        >>> guide = PointEstimate(Bayesian(nn.Linear(3, 2)))
        >>> bool((guide()["w.bias"] == guide()["w.bias"]).all())
        True
    """

    def __init__(self, net: nn.Module, *, jacobian: bool = False) -> None:
        super().__init__()
        self.sites, self.jacobian = weight_sites(net), jacobian
        self.loc = nn.ParameterList(site.unconstrained for site in self.sites)

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        register_params(self, "guide")
        return {
            site.name: pyro.sample(site.name, self._distribution(site, loc))
            for site, loc in zip(self.sites, self.loc)
        }

    def values(self) -> dict[str, Tensor]:
        """The weights by site."""
        return {site.name: site.transform(loc) for site, loc in zip(self.sites, self.loc)}

    @torch.no_grad()
    def start_at(self, values: Mapping[str, Tensor]) -> "PointEstimate":
        """Put weights, as `values()` of another guide gives them, in place of the parameters.

        Sites that `values` does not name stay as they are, and names without a site are ignored.
        Raises: ValueError for another shape than the site's.

        Example:
            >>> from pyrovae import Bayesian
            >>> guide = PointEstimate(Bayesian(nn.Linear(3, 2))).start_at({"w.bias": torch.ones(2)})
            >>> guide.values()["w.bias"].tolist()
            [1.0, 1.0]
        """
        for site, loc in zip(self.sites, self.loc):
            if site.name in values:
                value = values[site.name]
                expected = site.transform(loc).shape  # a simplex has a number more
                if value.shape != expected:
                    raise ValueError(
                        f"the value of site {site.name!r} has shape {tuple(value.shape)}, expected {tuple(expected)}."
                    )
                loc.copy_(site.transform.inv(value))
        return self

    def unconstrained(self) -> dict[str, Tensor]:
        """The numbers that training moves, by site: the weights themselves, the logarithms of
        positive sites."""
        return {site.name: loc for site, loc in zip(self.sites, self.loc)}

    def _distribution(self, site: Site, loc: Tensor) -> dist.Delta:
        value = site.transform(loc)
        density = 0.0
        if self.jacobian and not site.is_real:
            density = -site.transform.log_abs_det_jacobian(loc, value).sum()
        return dist.Delta(value, log_density=density, event_dim=value.dim())
