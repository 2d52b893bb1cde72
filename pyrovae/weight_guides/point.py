"""One value for each weight: maximum a posteriori, and the state of a sampler."""
import pyro
import pyro.distributions as dist
import torch.nn as nn
from torch import Tensor

from pyrovae.store import announce
from pyrovae.weight_guides.sites import weight_sites


class PointEstimate(nn.Module):
    r"""q(w) = delta(w - mu): `ElboLoss` is then -(log p(y | mu) + log p(mu)) / N, whose minimum is the MAP estimate.

    mu starts at the net's own weights. A delta has no density on weights: its loss is no bound on the evidence.

    Example:
        >>> from pyrovae import Bayesian
        >>> guide = PointEstimate(Bayesian(nn.Linear(3, 2)))
        >>> bool((guide()["w.bias"] == guide()["w.bias"]).all())
        True
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.sites = weight_sites(net)
        self.loc = nn.ParameterList(site.unconstrained for site in self.sites)

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        announce(self, "guide")
        return {name: pyro.sample(name, dist.Delta(value, event_dim=value.dim())) for name, value in self.values().items()}

    def values(self) -> dict[str, Tensor]:
        """The weights by site."""
        return {site.name: site.transform(loc) for site, loc in zip(self.sites, self.loc)}
