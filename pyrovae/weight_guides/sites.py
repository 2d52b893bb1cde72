"""What there is to infer in the Bayesian nets of a program."""
from dataclasses import dataclass

import torch
import torch.nn as nn
from pyro import poutine
from pyro.infer.autoguide.initialization import init_to_median
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints
from torch.distributions.transforms import identity_transform

from pyrovae.programs.bayesian import Bayesian
from pyrovae.store import private
from pyrovae.untouched import untouched


@dataclass(frozen=True)
class Site:
    """A sample site of a Bayesian net: a weight, or a scale that its prior draws."""

    name: str
    initial: Tensor
    """Where a guide starts: the parameter of the user's net, or the median of the prior."""
    transform: Transform
    """From the reals to the support."""
    point: bool
    """Whether the prior asks for its mode alone (empirical Bayes)."""

    @property
    def is_real(self) -> bool:
        return self.transform == identity_transform

    @property
    def unconstrained(self) -> Tensor:
        return self.transform.inv(self.initial).detach().clone()


def weight_sites(net: nn.Module) -> list[Site]:
    """The sites of a `Bayesian` net, or of all of them within a module. Raises ValueError where there is none."""
    nets = [part for part in net.modules() if isinstance(part, Bayesian)]
    if not nets:
        raise ValueError(f"{type(net).__name__} holds no Bayesian net, so there are no weights to infer. "
                         "Wrap the net: Bayesian(net, prior).")
    sites = []
    for part in nets:
        initial = {f"{part.name}.{key}": value for key, value in part.initial.items()}
        with private(), poutine.block(), untouched([part], seed=0), torch.no_grad():
            trace = poutine.trace(part.draw).get_trace()
            for name, site in trace.nodes.items():
                if site["type"] == "sample" and not site["is_observed"]:
                    value = initial[name] if name in initial else init_to_median(site)
                    sites.append(Site(name, value.detach(), _transform(site["fn"].support),
                                      site["infer"].get("point", False)))
    return sites


def _transform(support: constraints.Constraint) -> Transform:
    """Element by element."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return biject_to(support)
