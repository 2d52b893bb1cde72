"""A normal over all weights whose covariance is given by a linear map that need not be a matrix."""

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.guides.joint_normal import FLAT
from pyrovae.bnn.guides.sites import elementwise, weight_sites
from pyrovae.core.param_store import register_params


class Root(nn.Module):
    """A linear map R on `(..., P)`, from standard normal noise to weights."""

    def log_det(self) -> Tensor:
        """log |R|."""
        raise NotImplementedError


class StructuredNormal(nn.Module):
    r"""q(w) = N(loc, R R^T), w = loc + R e with e standard normal: R is the module `root`.

    `bnn.curvature` has those of Laplace's approximation: Kronecker-factored and low rank, for nets
    whose covariance (P, P) is too large to hold. The mean starts at the net's own weights.

    Raises: ValueError for sites that are not real-valued.

    Example:
        >>> from pyrovae import Bayesian
        >>> from pyrovae.bnn.curvature import LowRankRoot
        >>> root = LowRankRoot(torch.ones(8), torch.eye(8)[:, :2], torch.tensor([0.9, 0.5]))
        >>> StructuredNormal(Bayesian(nn.Linear(3, 2)), root)()["w.weight"].shape
        torch.Size([2, 3])
    """

    loc: Tensor

    def __init__(self, net: nn.Module, root: Root) -> None:
        super().__init__()
        self.sites = elementwise(weight_sites(net))
        self.root: Root = root
        bounded = [site.name for site in self.sites if not site.is_real]
        if bounded:
            raise ValueError(
                f"sites {bounded} are not real-valued, so a normal is no posterior of theirs. Give them a guide "
                "of their own: Joint(StructuredNormal(net, root), other)."
            )
        self.register_buffer("loc", torch.cat([site.initial.flatten() for site in self.sites]))

    @torch.no_grad()
    def set(self, loc: Tensor) -> "StructuredNormal":
        """Put the mean (P,) in place of the net's weights."""
        self.loc = loc.clone()
        return self

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        register_params(self, "guide")
        noise = pyro.sample(
            FLAT + self.sites[0].name,
            dist.Normal(torch.zeros_like(self.loc), 1.0).to_event(1),
            infer={"is_auxiliary": True},
        )
        flat = self.loc + self.root(noise)
        density, start, values = -self.root.log_det(), 0, {}
        for site in self.sites:
            stop = start + site.initial.numel()
            value = flat[..., start:stop].reshape(flat.shape[:-1] + site.initial.shape)
            once = (density if start == 0 else torch.zeros_like(density)).expand(flat.shape[:-1])
            values[site.name] = pyro.sample(
                site.name, dist.Delta(value, log_density=once, event_dim=site.initial.dim())
            )
            start = stop
        return values
