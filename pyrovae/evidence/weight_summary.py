"""What importance weights say, of p(x) and of themselves, in memory that does not grow with their
number."""

import math
from functools import cached_property

import torch
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor

KEPT = 50
"""At least so many of the largest weights are kept, so that each of the others is below 1/50 of
the sum."""
POWERS = torch.arange(1, 7)
"""Sums of the weights' powers stand for those others, in the series of log(1 - p) and of its
square."""
SERIES = -1 / POWERS.double()
SQUARED_SERIES = torch.tensor([0, 1, 1, 11 / 12, 5 / 6, 137 / 180], dtype=torch.float64)


class WeightSummary:
    r"""Everything `log_evidence` reports, from log-weights that arrive in chunks over K.

    `add` takes `(k, B)` log-weights; memory is that of the 3 sqrt(K) largest weights a datum,
    whatever K. All sums are in float64. With p_k = w_k / sum w and l_k = log(1 - p_k):

    * `log_mean`: log (1/K) sum w_k; `mean`: (1/K) sum log w_k (the ELBO), and `mean_se` its
      standard error, NaN for K = 1; `ess`: 1 / sum p_k^2.
    * `se`: the jackknife standard error of `log_mean`, sqrt((K - 1)/K sum_k (l_k - mean l)^2). The
      delta method is its first-order term and too small when few weights dominate, because it
      ignores how far log falls when the largest one is left out. NaN for K = 1.
    * `jackknife`: K log_mean - (K - 1) times the mean of the K estimates with one weight left out,
      which removes the bias of order 1/K. NaN for K = 1.
    * `khat`: shape of the generalised Pareto fitted to the M = min(K/5, 3 sqrt(K)) largest
      weights; -inf where those are all equal, inf where one dwarfs the rest, NaN below K = 25.
      Above 0.7 the estimate is untrustworthy.
    * `psis`: `log_mean` with those weights replaced by the quantiles (j - 1/2)/M of the fitted
      Pareto, none above the largest; `log_mean` itself where `khat` is infinite, NaN below K = 25.

    Weights of 0 (log-weights of -inf) count among the K. One makes `mean` -inf and `mean_se` NaN;
    they belong to no tail, so where few others are left, M is min(k/5, 3 sqrt(k)) of those k,
    `khat` inf for less than 5 of them, and `psis` is `log_mean`. Where all weights are 0, so is
    the estimate: `log_mean`, `psis` and `jackknife` are -inf, `ess` is 0, `se` NaN and `khat` inf.

    Source: standard error: Efron & Stein 1981, Ann. Statist. 9(3), eq. 1.3; bias: Nowozin 2018,
    "Debiasing evidence approximations", ICLR; k-hat and smoothing: Vehtari et al. 2024,
    arXiv:1507.02646, section 3.

    Example:
        >>> summary = WeightSummary(num_particles=100)
        >>> summary.add(torch.zeros(60, 2)); summary.add(torch.zeros(40, 2))
        >>> summary.log_mean.round(decimals=6) + 0, summary.ess.round(decimals=6)
        (tensor([0., 0.], dtype=torch.float64), tensor([100., 100.], dtype=torch.float64))
    """

    def __init__(self, num_particles: int) -> None:
        self.num_particles = num_particles
        self.num_tail = min(num_particles // 5, math.ceil(3 * num_particles**0.5))
        self.num_kept = min(num_particles, max(self.num_tail + 1, KEPT))
        self.is_empty = True
        self.top: Tensor

    def add(self, log_weights: Tensor) -> None:
        lw = log_weights.detach().double()
        if self.is_empty:
            self.is_empty = False
            self.top, self.total, self.squares = (
                lw.new_empty(0, lw.shape[1]),
                *lw.new_zeros(2, lw.shape[1]),
            )
            self.first = lw[0].nan_to_num(
                neginf=0.0
            )  # differences from it have digits for log-weights of -1000 +- 1
            self.log_powers = lw.new_full((len(POWERS), lw.shape[1]), -math.inf)
        self.total, self.squares = (
            self.total + lw.sum(0),
            self.squares + (lw - self.first).square().sum(0),
        )
        powers = torch.stack([(power * lw).logsumexp(0) for power in POWERS.tolist()])
        self.log_powers = torch.logaddexp(self.log_powers, powers)
        top = torch.cat([self.top, lw])
        self.top = top.topk(min(self.num_kept, len(top)), dim=0).values
        self.__dict__.pop("tails", None)

    @property
    def log_sum(self) -> Tensor:
        return self.log_powers[0]

    @property
    def mean(self) -> Tensor:
        return self.total / self.num_particles

    @property
    def mean_se(self) -> Tensor:
        if self.num_particles == 1:
            return torch.full_like(self.total, math.nan)
        variance = self.squares / self.num_particles - (self.mean - self.first).square()
        return (variance.clamp(min=0.0) / (self.num_particles - 1)).sqrt()

    @property
    def log_mean(self) -> Tensor:
        return self.log_sum - math.log(self.num_particles)

    @property
    def ess(self) -> Tensor:
        return (2 * self.log_sum - self.log_powers[1]).exp().where(self._any, 0.0)

    @property
    def se(self) -> Tensor:
        if self.num_particles == 1:
            return torch.full_like(self.total, math.nan)
        variance = (
            self._left_out(2, SQUARED_SERIES)
            - self._left_out(1, SERIES).square() / self.num_particles
        )
        se = (variance.clamp(min=0.0) * (self.num_particles - 1) / self.num_particles).sqrt()
        return torch.where(self._alone, math.inf, se)

    @property
    def jackknife(self) -> Tensor:
        if self.num_particles == 1:
            return torch.full_like(self.total, math.nan)
        bias = math.log1p(-1 / self.num_particles) - self._left_out(1, SERIES) / self.num_particles
        estimate = torch.where(
            self._alone, math.inf, self.log_mean + (self.num_particles - 1) * bias
        )
        return estimate.where(self._any, -math.inf)

    @property
    def _any(self) -> Tensor:
        """Where some weight is not 0."""
        return self.log_sum > -math.inf

    @property
    def _alone(self) -> Tensor:
        """Where one weight is all there is: leaving it out leaves nothing."""
        return (self.top[0] - self.log_sum).exp() > 1 - 1e-12

    def _left_out(self, exponent: int, series: Tensor) -> Tensor:
        """sum_k log(1 - p_k)^exponent: term by term for the weights that were kept, by its power
        series for the others."""
        p = (self.top - self.log_sum).exp().clamp(max=1.0)
        powers = POWERS.to(p.device).unsqueeze(-1)
        others = (
            (self.log_powers - powers * self.log_sum).exp() - p.pow(powers.unsqueeze(-1)).sum(1)
        ).clamp(min=0.0)
        return torch.log1p(-p).pow(exponent).sum(0) + series.to(p.device) @ others

    @property
    def khat(self) -> Tensor:
        return self.tails[0]

    @property
    def psis(self) -> Tensor:
        khat, scale = self.tails
        if self.num_tail < 5:
            return khat
        tail = (self.top[: self.num_tail + 1] - self.top[0]).exp()
        smooth = tail[-1] + pareto_quantiles(khat, scale, self.num_tail).clamp(max=1.0 - tail[-1])
        total = (self.log_sum - self.top[0]).exp() - tail[:-1].sum(0) + smooth.sum(0)
        smoothed = self.top[0] + total.log() - math.log(self.num_particles)
        return torch.where(
            khat.isinf() | (self.top[self.num_tail] == -math.inf), self.log_mean, smoothed
        )

    @cached_property
    def tails(self) -> Tensor:
        """Shape and scale of each datum's Pareto, `(2, B)`; the scale in units of the largest
        weight."""
        if self.num_tail < 5:
            return self.total.new_full((2, len(self.total)), math.nan)
        tails = self.top[: self.num_tail + 1].T.cpu()
        return torch.tensor(
            [fit_pareto(tail) for tail in tails], dtype=torch.float64, device=self.top.device
        ).T


def fit_pareto(log_tail: Tensor) -> tuple[float, float]:
    """Shape and scale of the generalised Pareto that fits the M weights above the last of
    `log_tail` `(M + 1,)`, descending.

    Shape -inf where they are all equal up to rounding, which may have been that of float32; inf
    where a few are so large that the others vanish beside them. The scale is in units of the
    largest weight. Where weights of 0 are among them, the k others are all there are, and the
    largest min(k/5, 3 sqrt(k)) of those are the tail.
    """
    positive = int((log_tail > -math.inf).sum())
    if positive < len(log_tail):
        num = min(positive // 5, math.ceil(3 * positive**0.5))
        return fit_pareto(log_tail[: num + 1]) if num >= 5 else (math.inf, math.inf)
    if log_tail[0] - log_tail[-1] < 1e-3 + 1e-6 * log_tail[0].abs():
        return -math.inf, 0.0
    excess = (log_tail[:-1] - log_tail[0]).exp() - (log_tail[-1] - log_tail[0]).exp()
    if excess[len(excess) * 3 // 4] < 1e-30:  # the fit starts from the lower quartile
        return math.inf, math.inf
    shape, scale = fit_generalized_pareto(excess)
    return (shape, scale) if math.isfinite(shape) else (math.inf, math.inf)


def pareto_quantiles(shape: Tensor, scale: Tensor, num: int) -> Tensor:
    """The quantiles (j - 1/2)/num of generalised Paretos, j = 1 ... num, `(num, B)`."""
    upper = -torch.log1p(
        -(torch.arange(num, dtype=shape.dtype, device=shape.device) + 0.5) / num
    ).unsqueeze(-1)
    return torch.where(
        shape.abs() < 1e-12, scale * upper, scale * torch.expm1(shape * upper) / shape
    )
