"""The posterior of earlier data as the prior of later data."""

from collections.abc import Mapping
from typing import Protocol

import pyro.distributions as dist
import torch.nn as nn
from torch import Tensor
from torch.distributions import Distribution

from pyrovae.programs.bayesian import WeightPrior, standard


class HasMoments(Protocol):
    """A guide of independent normals, e.g. `MeanField`."""

    def moments(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Mean and standard deviation by site."""


class Previous(nn.Module):
    r"""The posterior of earlier data as the prior of the next: p_t(w) = q_{t-1}(w), as it is now,
    for mean-field guides.

    `guide` gives independent normals (`weight_guides.MeanField`); its moments are copied. Sites
    that it does not know get `otherwise`'s prior (the head of a new task).
    Source: Nguyen et al. 2018, "Variational continual learning", arXiv:1710.10628, eq. 2.

    Example:
        >>> from pyrovae import Bayesian
        >>> from pyrovae.bnn.guides import MeanField
        >>> net = Bayesian(nn.Linear(3, 1))
        >>> online = Bayesian(nn.Linear(3, 1), Previous(MeanField(net)))
    """

    def __init__(self, guide: HasMoments, otherwise: WeightPrior = standard) -> None:
        super().__init__()
        self.names: dict[str, int] = {}
        self.otherwise = otherwise
        for index, (site, (loc, scale)) in enumerate(guide.moments().items()):
            self.names[site] = index
            self.register_buffer(f"loc_{index}", loc.detach().clone())
            self.register_buffer(f"scale_{index}", scale.detach().clone())

    def forward(self, site: str, tensor: Tensor) -> Distribution | None:
        if site not in self.names:
            return self.otherwise(site, tensor)
        index = self.names[site]
        return dist.Normal(self.get_buffer(f"loc_{index}"), self.get_buffer(f"scale_{index}"))
