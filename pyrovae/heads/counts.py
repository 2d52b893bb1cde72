"""Likelihoods of counts 0, 1, 2, ..."""

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Size, Tensor

from pyrovae.heads.base import Head
from pyrovae.heads.precision import at_least_float32, log_prob_in_float64


class PoissonHead(Head):
    r"""Independent Poisson, log rate = net(parents): mean and variance are both the rate.

    Counts usually vary more than that; see `NegativeBinomialHead`.

    Shapes: the net returns `(*batch, *event)` of `event_dim` event dims; data are whole numbers
    stored as floats.

    Example:
        >>> from pyrovae.nets import MLP
        >>> PoissonHead(MLP(2, [8], 4))(torch.zeros(5, 2)).log_prob(torch.ones(5, 4)).shape
        torch.Size([5])
    """

    def forward(self, *parents: Tensor) -> dist.Independent:
        return PrecisePoisson(at_least_float32(self.net(*parents)).exp()).to_event(self.event_dim)


class NegativeBinomialHead(nn.Module):
    r"""Independent negative binomial, log mu = net(parents), with mean mu and variance mu + mu^2 /
    r (called NB2).

    A Poisson whose rate varies as a gamma of shape r; as r grows it becomes the Poisson. r is
    learned: one for all elements with `r_shape=()`, one for each (of all data) with `r_shape` the
    event's shape, e.g. a gene's own.

    Shapes: the net returns `(*batch, *event)` of `event_dim` event dims; `r_shape` broadcasts with
    the event; data are whole numbers stored as floats. Raises ValueError for `initial_r` that is
    not positive.
    Source: Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics, Nature
    Methods 15 (there with zero inflation and library sizes).

    Example:
        >>> from pyrovae.nets import MLP
        >>> NegativeBinomialHead(MLP(2, [8], 4), r_shape=(4,))(torch.zeros(5, 2)).log_prob(torch.ones(5, 4)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        event_dim: int = 1,
        r_shape: Sequence[int] = (),
        initial_r: float = 1.0,
    ) -> None:
        super().__init__()
        if not initial_r > 0:
            raise ValueError(
                f"initial_r={initial_r}, but r, as in the variance mu + mu^2 / r, is positive."
            )
        self.net = net
        self.event_dim = event_dim
        self.log_r = nn.Parameter(
            torch.full(Size(r_shape), math.log(initial_r), dtype=torch.get_default_dtype())
        )

    def forward(self, *parents: Tensor) -> dist.Independent:
        log_mean = at_least_float32(self.net(*parents))
        return PreciseNegativeBinomial(self.log_r.exp(), logits=log_mean - self.log_r).to_event(
            self.event_dim
        )


class PrecisePoisson(dist.Poisson):
    """Poisson scored in float64: at counts of 10^4 float32 is off by 0.009 nats."""

    def log_prob(self, value: Tensor) -> Tensor:
        return log_prob_in_float64(
            dist.Poisson, value, rate=self.rate, validate_args=self._validate_args
        )


class PreciseNegativeBinomial(dist.NegativeBinomial):
    """Negative binomial scored in float64: at r = 10^6, nearly a Poisson, float32 is off by a nat."""

    def log_prob(self, value: Tensor) -> Tensor:
        return log_prob_in_float64(
            dist.NegativeBinomial,
            value,
            total_count=self.total_count,
            logits=self.logits,
            validate_args=self._validate_args,
        )
