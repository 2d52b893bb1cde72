"""Predictions averaged over a posterior of the weights: one path for guides, ensembles and
Markov chains."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Bernoulli, Categorical

from pyrovae.capture.auto import Compile
from pyrovae.core.batching import Data
from pyrovae.core.errors import PairError
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import (
    base_distribution,
    log_prob,
    plate_frame,
    sample_sites,
)
from pyrovae.core.types import sum_of
from pyrovae.prediction.chunked_draws import run_draws, site_of
from pyrovae.prediction.draws import evaluating


@dataclass(frozen=True)
class Moments:
    """The prediction for each datum, averaged over draws of the weights: for regression, variances (a
    band is mean +- 2 total.sqrt())."""

    mean: Tensor
    """E[y], `(N, *event)`; for classes the probabilities `(N, C)`."""
    aleatoric: Tensor
    """Aleatoric part: E_w Var[y | w], `(N, *event)`; for classes E_w H[y | w] in nats, `(N,)`."""
    epistemic: Tensor
    """Epistemic part: Var_w E[y | w]; for classes the mutual information of y and w in nats,
    `(N,)`, exactly 0 where it is no more than the rounding of the sums over draws."""

    @property
    def total(self) -> Tensor:
        """The variance of y, or for classes the entropy of the mean probabilities."""
        return self.aleatoric + self.epistemic


def log_predictive(
    model: Callable,
    guide: Callable,
    data: Data,
    *,
    num_samples: int,
    compile: Compile = "auto",
    names: Sequence[str] | None = None,
    plate: str = DATA,
) -> Tensor:
    r"""log p(y_i | x_i, D) = log 1/S sum_s p(y_i | x_i, w_s), w_s ~ q: the density of the mixture,
    in nats.

    data: dict batches, one of them, tuples or one tensor with `names`; NumPy arrays and another
        precision as in `fit`.

    Shapes: `(N,)`, in the order of the data, all observed sites of a datum together. S =
    `num_samples` draws are made once and serve all data (for `Empirical` and `Ensemble` a multiple
    of their number uses each alike). The guide does not see what the model observes. Eval mode, no
    gradients; flags and buffers stay as they were. compile: as in `log_evidence`.

    Biased low by about Var / 2S nats, as any log of a mean is; compare methods at one S.
    Raises: PairError where a latent site lies in the plate: its guide would have read the targets;
    see `log_evidence`; and for targets that would be broadcast.
    Source: Gelman, Hwang & Vehtari 2014, arXiv:1307.5928, eq. 5.

    Example:
        >>> from pyrovae import Bayesian, Model, Node
        >>> from pyrovae.heads import CategoricalHead
        >>> from pyrovae.bnn.guides import MeanField
        >>> net = Bayesian(torch.nn.Linear(4, 3))
        >>> model = Model(y=Node(CategoricalHead(net), "x"))
        >>> batch = {"x": torch.zeros(5, 4), "y": torch.ones(5).long()}
        >>> log_predictive(model, MeanField(net), batch, num_samples=10).shape
        torch.Size([5])
    """

    def score(trace: Trace, count: int) -> Tensor:
        sites = sample_sites(trace, observed=True).values()
        inside = [
            log_prob(site).expand(count, -1)
            for site in sites
            if plate_frame(site, plate) is not None
        ]
        if not inside:
            raise PairError(
                f"the model observes nothing in plate {plate!r} on these data, so there is nothing to score. "
                "Name the targets after their site, or say which plate the data are in (plate=)."
            )
        return sum_of(inside).double().logsumexp(0)

    results = []
    with evaluating(model, guide):
        for parts in run_draws(
            model, guide, data, num_samples, names, plate, score, compile, redraw=False
        ):
            total = functools.reduce(torch.logaddexp, parts)
            results.append(total.cpu() - math.log(num_samples))
    return torch.cat(results)


def predict_moments(
    model: Callable,
    guide: Callable,
    data: Data,
    *,
    num_samples: int,
    site: str | None = None,
    compile: Compile = "auto",
    names: Sequence[str] | None = None,
    plate: str = DATA,
) -> Moments:
    """Mean and uncertainty of `site` (the model's only one in the plate by default), split into
    its two sources.

    Averages run over the S draws as they come, so memory does not grow with S. Targets among the
    data are not read.
    data, compile: as in `log_predictive`. For categorical and Bernoulli sites the parts are
    entropies in nats, else variances in the units of y squared.

    Raises: PairError as `log_predictive`, for an unknown site, and for one whose distribution has
    no mean.
    Source: the variance split: Depeweg et al. 2018, arXiv:1710.07283, eq. 6; of entropy: eq. 5,
    and Houlsby et al. 2011.
    """
    results = []
    with evaluating(model, guide):
        for parts in run_draws(
            model,
            guide,
            data,
            num_samples,
            names,
            plate,
            lambda trace, count: _summed(site_of(trace, site, plate), count),
            compile,
            redraw=True,
        ):
            mean, noise, square = (sum(each) / num_samples for each in zip(*parts))
            results.append(_moments(mean, noise, square, num_samples))
    return Moments(
        torch.cat([result.mean for result in results]),
        torch.cat([result.aleatoric for result in results]),
        torch.cat([result.epistemic for result in results]),
    )


def _summed(fn: torch.distributions.Distribution, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over draws of the mean, the noise and the squared mean."""
    base = base_distribution(fn)
    if isinstance(base, (Categorical, Bernoulli)):
        probs = (
            base.probs
            if isinstance(base, Categorical)
            else torch.stack([1.0 - base.probs, base.probs], -1)
        )
        probs = of_draws(probs, fn, count).double()
        entropy = -torch.xlogy(probs, probs).sum(-1)
        return probs.sum(0), entropy.sum(0), torch.empty(0)
    try:
        mean, variance = fn.mean.double(), fn.variance.double()
    except (AttributeError, NotImplementedError) as error:
        raise PairError(
            f"a {type(base).__name__} knows no mean and variance; use predict, which returns draws."
        ) from error
    mean, variance = (of_draws(value, fn, count) for value in (mean, variance))
    return mean.sum(0), variance.sum(0), (mean**2).sum(0)


def of_draws(value: Tensor, fn: torch.distributions.Distribution, count: int) -> Tensor:
    """A distribution's parameter with a leading dim for draws; a draw that ran alone has none."""
    value = value if len(fn.batch_shape) > 1 else value.unsqueeze(0)
    return value.expand(count, *value.shape[1:])


def _moments(mean: Tensor, noise: Tensor, square: Tensor, num_samples: int) -> Moments:
    if square.numel() == 0 and mean.numel():
        entropy = -torch.xlogy(mean, mean).sum(-1)
        rounding = 4 * num_samples * torch.finfo(mean.dtype).eps * (1 + entropy)
        mutual = entropy - noise
        # exactly 0 for a point estimate, so that no ranking is one of rounding
        mutual = torch.where(mutual > rounding, mutual, 0.0)
        return Moments(mean.cpu(), noise.cpu(), mutual.cpu())
    return Moments(mean.cpu(), noise.cpu(), (square - mean**2).clamp_min(0.0).cpu())
