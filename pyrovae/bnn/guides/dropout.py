"""Dropout as an approximate posterior over weights."""

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.guides.dropped import DropoutWeight
from pyrovae.bnn.guides.sites import Site, weight_sites
from pyrovae.core.param_store import register_params

Rate = float | Callable[[str, Tensor], float]


class MCDropout(nn.Module):
    r"""q(W) = M diag(z), z_i ~ Bernoulli(1 - rate): dropping the inputs of each layer, read as a
    posterior over weights.

    `rate` is the probability of dropping, one for all layers or a function `(site, tensor) ->
    rate`, 0 for none; `learn_rate=True` fits one rate for each layer (concrete dropout). One rate
    leaves out layers of a single input or channel (a convolution of grey images), which a mask would
    blank. Biases and norms are points. M starts at the net's weights / (1 - rate), so that E[W] is the net.
    `by_weight=True` drops single weights (DropConnect).

    With the prior N(0, s^2) the loss holds E_q[-log p(W)] = (1 - rate) ||M||^2 / (2 s^2) + const,
    the L2 term of the source. One W serves all data of a batch; under
    `pyrovae.LocalReparameterization` each datum has masks of its own, as dropout layers do. There
    is no density on weights, so `log_evidence` refuses this guide.
    Source: Gal & Ghahramani 2016, arXiv:1506.02142; learned rates: Gal, Hron & Kendall 2017,
    arXiv:1705.07832, eq. 4.

    Example:
        >>> from pyrovae import Bayesian
        >>> guide = MCDropout(Bayesian(nn.Linear(100, 2)), rate=0.5)
        >>> 20 < int((guide()["w.weight"][0] == 0).sum()) < 80
        True
    """

    def __init__(
        self,
        net: nn.Module,
        rate: Rate = 0.1,
        *,
        learn_rate: bool = False,
        by_weight: bool = False,
    ) -> None:
        super().__init__()
        self.sites, self.learn_rate, self.by_weight = weight_sites(net), learn_rate, by_weight
        rates = [_rate(rate, site, by_weight) for site in self.sites]
        self.loc = nn.ParameterList(
            site.unconstrained / (1.0 - p) for site, p in zip(self.sites, rates)
        )
        self.logit = nn.ParameterList(
            nn.Parameter(torch.logit(torch.tensor(p, dtype=loc.dtype)), learn_rate and p > 0)
            for p, loc in zip(rates, self.loc)
        )
        self.is_dropped = [p > 0 for p in rates]

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        register_params(self, "guide")
        return {
            site.name: pyro.sample(site.name, self._distribution(index, site))
            for index, site in enumerate(self.sites)
        }

    def rates(self) -> dict[str, float]:
        """The probability of dropping an input, for each layer that drops any."""
        return {
            site.name: logit.sigmoid().item()
            for site, logit, dropped in zip(self.sites, self.logit, self.is_dropped)
            if dropped
        }

    def _distribution(self, index: int, site: Site) -> dist.TorchDistribution:
        loc = self.loc[index]
        if self.is_dropped[index]:
            return DropoutWeight(
                loc, self.logit[index].sigmoid(), learned=self.learn_rate, by_weight=self.by_weight
            )
        return dist.Delta(site.transform(loc), event_dim=loc.dim())


def _rate(rate: Rate, site: Site, by_weight: bool) -> float:
    if site.initial.dim() < 2 or not site.is_real:
        return 0.0
    value = rate(site.name, site.initial) if callable(rate) else rate
    if not 0.0 <= value < 1.0 or math.isnan(value):
        raise ValueError(
            f"the dropout rate of {site.name!r} is {value}, expected a probability of dropping, 0 <= rate < 1."
        )
    alone = site.initial.shape[1] == 1 and not (callable(rate) or by_weight)
    return 0.0 if alone else float(value)
