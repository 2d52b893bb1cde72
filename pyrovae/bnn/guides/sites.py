"""The sample sites of the Bayesian nets of a program."""

from dataclasses import dataclass

import torch
import torch.nn as nn
from pyro import poutine
from pyro.infer.autoguide.initialization import init_to_median
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints
from torch.distributions.transforms import identity_transform

from pyrovae.core.param_store import local_param_scope
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.types import nodes_of
from pyrovae.programs.bayesian import Bayesian, drawn
from pyrovae.programs.graph import Model


@dataclass(frozen=True)
class Site:
    """A sample site of a Bayesian net: a weight, or a scale that its prior draws."""

    name: str
    initial: Tensor
    """Where a guide starts: the net's own parameter where the prior allows it, else the median
    of the prior."""
    transform: Transform
    """From the reals to the support."""
    point: bool
    """Whether the prior asks for a point estimate of it (empirical Bayes)."""

    @property
    def is_real(self) -> bool:
        return self.transform == identity_transform

    @property
    def unconstrained(self) -> Tensor:
        return self.transform.inv(self.initial).detach().clone()


def weight_sites(net: nn.Module) -> list[Site]:
    """The sites outside the plate of a `Model`, or of a `Bayesian` net, or of all of them within a
    module.

    Raises: ValueError where there is none.
    """
    initial = {
        f"{part.name}.{key}": value
        for part in net.modules()
        if isinstance(part, Bayesian)
        for key, value in part.initial.items()
    }
    with local_param_scope(), poutine.block(), preserve_state([net], seed=0), torch.no_grad():
        sites = nodes_of(poutine.trace(_draw).get_trace(net)).values()
        found = [
            Site(
                site["name"],
                _start(site, initial.get(site["name"])).detach(),
                _transform(site["fn"].support),
                site["infer"].get("point", False),
            )
            for site in sites
            if site["type"] == "sample" and not site["is_observed"]
        ]
    if not found:
        raise ValueError(
            f"{type(net).__name__} holds no Bayesian net, so there are no weights to infer. "
            "Wrap the net: Bayesian(net, prior)."
        )
    return found


def _start(site: dict, value: Tensor | None) -> Tensor:
    return (
        value
        if value is not None and site["fn"].support.check(value).all()
        else init_to_median(site)
    )


def elementwise(sites: list[Site]) -> list[Site]:
    """The sites, for guides with one normal for each number. Raises ValueError for supports such
    as the simplex."""
    for site in sites:
        if site.transform.domain.event_dim:
            raise ValueError(
                f"site {site.name!r} has a support whose numbers depend on each other (a simplex, a matrix), "
                "but this guide has a normal for each. Use PointEstimate, or an autoguide."
            )
    return sites


def _draw(net: nn.Module) -> None:
    with drawn(net):
        for part in net.modules():
            if isinstance(part, Model):
                part.draw_globals()


def _transform(support: constraints.Constraint) -> Transform:
    """Applied element by element."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return biject_to(support)
