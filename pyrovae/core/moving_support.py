"""Likelihoods whose support depends on latent values: outside it their density is 0, and so is an
importance weight."""

from collections.abc import Callable, Collection

import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, constraints

from pyrovae.core.traces import run_pair, sample_sites
from pyrovae.core.types import Batch, Shape, Site, nodes_of
from pyrovae.core.wrapped_distribution import WrappedDistribution

COMPARED_DRAWS = 10
"""Draws that are compared; with continuous latent values two would be enough."""


class ZeroOutside(WrappedDistribution):
    """A distribution with log-density -inf outside its support, where many distributions return a
    finite number if validation is off.

    Example:
        >>> import pyro.distributions as dist
        >>> ZeroOutside(dist.Pareto(2.0, 1.0, validate_args=False)).log_prob(torch.tensor([1.0, 3.0])).isfinite()
        tensor([False,  True])
    """

    def log_prob(self, value: Tensor) -> Tensor:
        score, support = self.base_dist.log_prob(value), self.support
        if support is None:
            return score
        return torch.where(support.check(value), score, torch.full_like(score, -torch.inf))

    def expand(self, batch_shape: Shape, _instance: object = None) -> "ZeroOutside":
        return ZeroOutside(self.base_dist.expand(batch_shape))


class AllowOutside(Messenger):
    """Give data outside the support log-density -inf, at observed sites whose bounds are tensors:
    at those in `names`, or at all."""

    def __init__(self, names: Collection[str] | None = None) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Site) -> None:
        if (
            msg["is_observed"]
            and (self.names is None or msg["name"] in self.names)
            and bounds_of(msg["fn"])
        ):
            msg["fn"] = ZeroOutside(msg["fn"])


def bounds_of(fn: Distribution) -> list[Tensor]:
    """The bounds of a support that are tensors, and so may depend on other sites."""
    try:
        support = fn.support
    except (NotImplementedError, AttributeError, ValueError):
        return []
    if support is None:
        return []
    return [bound for bound in vars(base_support(support)).values() if isinstance(bound, Tensor)]


def base_support(support: constraints.Constraint) -> constraints.Constraint:
    """The constraint on one element of a value."""
    while isinstance(support, (constraints.independent, constraints.MixtureSameFamilyConstraint)):
        support = support.base_constraint
    return support


def moving_supports(model: Callable, guide: Callable, batch: Batch, seen: Trace) -> set[str]:
    """The observed sites whose support differs between draws of the guide; `seen` is any trace of
    the model."""
    names = [
        name for name, site in sample_sites(seen, observed=True).items() if bounds_of(site["fn"])
    ]
    if not names:
        return set()
    draws = [nodes_of(run_pair(model, guide, batch)[0]) for _ in range(COMPARED_DRAWS)]
    return {
        name
        for name in names
        if not all(
            torch.equal(one, other)
            for nodes in draws[1:]
            for one, other in zip(bounds_of(draws[0][name]["fn"]), bounds_of(nodes[name]["fn"]))
        )
    }
