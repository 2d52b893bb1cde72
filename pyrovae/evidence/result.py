"""The result of an estimate of log p(x): a number for each datum, its error bar, and
diagnostics."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrovae.evidence.weight_summary import WeightSummary

UNTRUSTED_KHAT = 0.7


def standard_error(values: Tensor) -> float:
    """Standard error of the mean of `(N,)` values, one a datum; NaN for one datum."""
    return (values.std() / len(values) ** 0.5).item() if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Evidence:
    """log p(x) of each datum in nats, with diagnostics that say how far to trust it; all `(N,)`
    float64 on the CPU."""

    log_px: Tensor
    """log (1/K) sum_k w_k, biased low: a lower bound in expectation that rises with K."""
    se: Tensor
    """Monte Carlo standard error of `log_px` (jackknife over particles)."""
    elbo: Tensor
    """(1/K) sum_k log w_k."""
    elbo_se: Tensor
    """Monte Carlo standard error of `elbo`."""
    ess: Tensor
    """Effective number of particles, out of K."""
    khat: Tensor
    """Pareto shape of the largest weights; above 0.7 neither `log_px` nor `se` can be trusted."""
    psis: Tensor
    """`log_px` with its largest weights smoothed by that Pareto: less noise, but no longer a
    bound."""
    jackknife: Tensor
    """`log_px` without its bias of order 1/K: no longer a bound, and nonsense where few weights
    dominate."""
    num_particles: int
    """K; 0 where no latents are left to draw and log p(x) is exact."""

    @classmethod
    def exactly(cls, log_px: Tensor) -> "Evidence":
        """From exact values: they are their own ELBO, without Monte Carlo error."""
        value = log_px.detach().double().cpu()
        zero, one = torch.zeros_like(value), torch.ones_like(value)
        return cls(value, zero, value, zero, one, -math.inf * one, value, value, 0)

    @classmethod
    def of(cls, summaries: Sequence[WeightSummary]) -> "Evidence":
        """Put the weights of all batches together, in their order; all have the same number of
        particles."""
        rows = (
            [s.log_mean, s.se, s.mean, s.mean_se, s.ess, s.khat, s.psis, s.jackknife]
            for s in summaries
        )
        log_px, se, elbo, elbo_se, ess, khat, psis, jackknife = (
            torch.cat([part.cpu() for part in parts]) for parts in zip(*rows)
        )
        num = summaries[0].num_particles
        return cls(log_px, se, elbo, elbo_se, ess, khat, psis, jackknife, num)

    @property
    def mean(self) -> float:
        """Average log p(x) over the data."""
        return self.log_px.mean().item()

    @property
    def mean_se(self) -> float:
        """Standard error of `mean` as an estimate for the population the data come from; contains
        `monte_carlo_se`.

        NaN for one datum.
        """
        return standard_error(self.log_px)

    @property
    def monte_carlo_se(self) -> float:
        """Standard error of `mean` for these very data, from the finite number of particles alone;
        NaN for one particle."""
        return (self.se.square().sum().sqrt() / len(self.se)).item()

    @property
    def untrusted(self) -> Tensor:
        """`(N,)` bool: data whose k-hat is above 0.7."""
        return self.khat > UNTRUSTED_KHAT

    def __str__(self) -> str:
        over_data = (
            f"{self.mean:.3f} +- {self.mean_se:.3f} nats (mean and standard error over N = {len(self.log_px)} data"
            if len(self.log_px) > 1
            else f"{self.mean:.3f} nats (N = 1 datum, standard error unknown"
        )
        if not self.num_particles:
            return f"log p(x) = {over_data}; exact)"
        over_particles = (
            f"K = {self.num_particles} particles, Monte Carlo part +- {self.monte_carlo_se:.3f}"
            if self.num_particles > 1
            else "K = 1 particle, Monte Carlo part unknown"
        )
        text = (
            f"log p(x) = {over_data}; {over_particles}); ELBO {self.elbo.mean().item():.3f}; "
            f"median ESS {self.ess.median().item():.1f}"
        )
        count = int(self.untrusted.sum())
        if count:
            text += (
                f"\nk-hat > {UNTRUSTED_KHAT} for {count} of {len(self.khat)} data: there the guide misses mass, "
                "log p(x) is likely too low and its error bar too small. Use more particles or a better guide."
            )
        return text
