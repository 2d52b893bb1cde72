"""Numbers that say how far to trust other numbers: effective sample size, k-hat, active units, KL per dimension."""
import math
from collections.abc import Callable, Sequence

import torch
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from pyrovae.errors import PairError
from pyrovae.feed import Data, batches, device_of, size_of
from pyrovae.reach import modules_of
from pyrovae.traces import run_pair
from pyrovae.untouched import untouched


class WeightSummary:
    r"""Everything `log_evidence` reports, from log-weights that arrive in chunks over K.

    `add` takes `(k, B)` log-weights; memory is that of the 3 sqrt(K) largest weights a datum, whatever K. All sums
    are in float64. With p_k = w_k / sum w:

    * `log_mean`: log (1/K) sum w_k; `mean`: (1/K) sum log w_k (the ELBO); `ess`: 1 / sum p_k^2.
    * `se`: the jackknife standard error of `log_mean`, sqrt((K - 1)/K sum_k (l_k - mean l)^2) with l_k = log(1 - p_k).
      The delta method is its first-order term and too small when few weights dominate, because it ignores how
      far log falls when the largest one is left out. NaN for K = 1.
    * `khat`: shape of the generalised Pareto fitted to the min(K/5, 3 sqrt(K)) largest weights; -inf where those are
      all equal, inf where one dwarfs the rest, NaN below K = 25. Above 0.7 the estimate is untrustworthy.

    Source: jackknife: Efron & Stein 1981, Ann. Statist. 9(3), eq. 1.3; k-hat: Vehtari et al. 2024, arXiv:1507.02646,
    section 3.

    Example:
        >>> summary = WeightSummary(num_particles=100)
        >>> summary.add(torch.zeros(60, 2)); summary.add(torch.zeros(40, 2))
        >>> summary.log_mean.round(decimals=6) + 0, summary.ess.round(decimals=6)
        (tensor([0., 0.], dtype=torch.float64), tensor([100., 100.], dtype=torch.float64))
    """

    def __init__(self, num_particles: int) -> None:
        self.num_particles = num_particles
        self.num_tail = min(num_particles // 5, math.ceil(3 * num_particles ** 0.5))
        self.num_kept = min(num_particles, max(self.num_tail + 1, 50))
        self.top: Tensor | None = None

    def add(self, log_weights: Tensor) -> None:
        lw = log_weights.detach().double()
        if self.top is None:
            self.top = lw.new_empty(0, lw.shape[1])
            self.total, self.log_sum, self.log_sum_squares = lw.new_zeros(lw.shape[1]), *lw.new_full((2, lw.shape[1]),
                                                                                                     -math.inf)
        self.total = self.total + lw.sum(0)
        self.log_sum = torch.logaddexp(self.log_sum, lw.logsumexp(0))
        self.log_sum_squares = torch.logaddexp(self.log_sum_squares, (2 * lw).logsumexp(0))
        top = torch.cat([self.top, lw])
        self.top = top.topk(min(self.num_kept, len(top)), dim=0).values

    @property
    def mean(self) -> Tensor:
        return self.total / self.num_particles

    @property
    def log_mean(self) -> Tensor:
        return self.log_sum - math.log(self.num_particles)

    @property
    def ess(self) -> Tensor:
        return (2 * self.log_sum - self.log_sum_squares).exp()

    @property
    def se(self) -> Tensor:
        if self.num_particles == 1:
            return torch.full_like(self.total, math.nan)
        p = (self.top - self.log_sum).exp()
        kept = torch.log1p(-p.clamp(max=1.0))
        rest, rest_squares = (1.0 - p.sum(0)).clamp(min=0.0), (1 / self.ess - p.square().sum(0)).clamp(min=0.0)
        mean = (kept.sum(0) - rest - rest_squares / 2) / self.num_particles
        variance = kept.square().sum(0) + rest_squares - self.num_particles * mean.square()
        se = (variance.clamp(min=0.0) * (self.num_particles - 1) / self.num_particles).sqrt()
        return torch.where(p[0] > 1 - 1e-12, math.inf, se)  # one weight is all there is: leaving it out leaves nothing

    @property
    def khat(self) -> Tensor:
        if self.num_tail < 5:
            return torch.full_like(self.total, math.nan)
        top = self.top[:self.num_tail + 1].T.cpu()
        return torch.tensor([pareto_khat(tail) for tail in top], dtype=torch.float64, device=self.top.device)


def pareto_khat(log_tail: Tensor) -> float:
    """Shape k of the generalised Pareto that fits the M weights above the last of `log_tail` `(M + 1,)`, descending.

    -inf where they are all equal up to rounding; inf where a few are so large that the others vanish beside them.
    """
    if log_tail[0] - log_tail[-1] < 1e-9:
        return -math.inf
    excess = (log_tail[:-1] - log_tail[0]).exp() - (log_tail[-1] - log_tail[0]).exp()
    if excess[len(excess) * 3 // 4] < 1e-30:  # the fit starts from the lower quartile
        return math.inf
    khat = fit_generalized_pareto(excess)[0]
    return khat if math.isfinite(khat) else math.inf


class ActiveUnits:
    r"""Count of latent dimensions that carry information: Var_x(E_q[z_u | x]) > 0.01, over all data given to `add`.

    `add` takes two estimates of the posterior means, `(B, *event)` each: the same exact ones twice, or averages over
    two independent sets of draws, whose noise then cancels in the covariance. The divisor is N.
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, section 5.2.

    Example:
        >>> units, means = ActiveUnits(), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> units.add(means, means)
        >>> units.count()
        1
    """

    threshold = 0.01

    def __init__(self) -> None:
        self.size, self.first, self.second, self.product = 0, 0.0, 0.0, 0.0

    def add(self, first: Tensor, second: Tensor) -> None:
        a, b = (means.detach().reshape(len(means), -1).double() for means in (first, second))
        self.size += len(a)
        self.first, self.second = self.first + a.sum(0), self.second + b.sum(0)
        self.product = self.product + (a * b).sum(0)

    def variance(self) -> Tensor:
        return self.product / self.size - self.first * self.second / self.size ** 2

    def count(self) -> int:
        return int((self.variance() > self.threshold).sum())


def kl_per_dim(model: Callable, guide: Callable, data: Data, *, site: str = "z",
               names: Sequence[str] | None = None) -> Tensor:
    r"""KL(q(z_d | x) || p(z_d)) of each latent dimension, averaged over data, in nats; `(D,)` float64.

    In closed form, so it needs guide and prior to factorise over dimensions (diagonal encoders, standard prior);
    elsewhere a KL per dimension is not defined and PairError says so.

    Example:
        >>> from pyrovae import Guide, Model, Node
        >>> from pyrovae.heads import BernoulliHead, NormalHead
        >>> from pyrovae.nets import MLP
        >>> from pyrovae.priors import StandardNormal
        >>> model = Model(z=StandardNormal(2), x=Node(BernoulliHead(MLP(2, [8], 4)), "z"))
        >>> guide = Guide(z=Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))
        >>> kl_per_dim(model, guide, {"x": torch.ones(3, 4)}).shape
        torch.Size([2])
    """
    total, size = 0.0, 0
    with torch.no_grad(), untouched(modules_of(model, guide).values(), training=False):
        for batch in batches(data, names, device_of(model, guide)):
            traces = run_pair(model, guide, batch)
            p, q = (factors(trace.nodes[site]) for trace in traces)
            try:
                kl = kl_divergence(q, p)
            except NotImplementedError as error:
                raise PairError(f"no closed-form KL between {type(q).__name__} and {type(p).__name__}.") from error
            total = total + kl.double().sum(0).flatten()
            size += size_of(batch)
    return (total / size).cpu()


def factors(site: dict) -> Distribution:
    """The one-dimensional factors, batch `(B, *event)`, of a site that factorises over its event."""
    fn, event_dim = site["fn"], len(site["fn"].event_shape)
    while type(fn).__name__ in ("ExpandedDistribution", "Independent"):
        fn = fn.base_dist
    if fn.event_shape:
        raise PairError(f"site {site['name']!r} is {type(fn).__name__}, which does not factorise over its "
                        f"{event_dim} event dims, so it has no KL per dimension.")
    return fn
