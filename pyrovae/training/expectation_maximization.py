"""Expectation maximisation for mixtures that are written as programs."""

from collections.abc import Callable

import torch
from pyro.distributions import Categorical
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

from pyrovae.core.batching import rebatch, size_of
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.shapes import MAX_PLATE_NESTING
from pyrovae.core.traces import Batch, no_latents
from pyrovae.losses.elbo import ElboLoss
from pyrovae.programs.marginal import Marginal

Maximize = Callable[[Tensor], object]
"""Sets the parameters to the optimum for responsibilities `(N, C)`."""


def expectation_maximization(
    model: Callable,
    batch: Batch,
    maximize: Maximize,
    *,
    site: str = "k",
    steps: int = 200,
    tolerance: float = 1e-6,
    chunk_size: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[float]:
    r"""Maximise \sum_i log \sum_k p(x_i, k) by EM; return the log-likelihood before each step and after
    the last, in nats per datum.

    Each step computes the responsibilities r_ik = p(k | x_i) by enumeration of `site`, which the
    model marks with `infer={"enumerate": "parallel"}`, and calls `maximize(r)`. The likelihood
    never falls where `maximize` is exact. It stops after `steps` steps, or where one gains less than
    `tolerance`. There is no such step where the likelihood is a neural net of the latents: use
    `ElboLoss(Marginal(model))`.

    chunk_size: data whose components are enumerated together, which takes `chunk_size * C` times the
    memory of a datum; by default all.
    Source: Dempster, Laird & Rubin 1977, J. R. Statist. Soc. B 39(1).

    Example:
        >>> from pyrovae import Model, Node
        >>> from pyrovae.heads import BernoulliHead
        >>> from pyrovae.priors import Mixing
        >>> x, mixing, parts = (torch.rand(100, 4) < 0.5).float(), Mixing(3), nn.Embedding(3, 4)
        >>> model = Model(k=Node(mixing, infer={"enumerate": "parallel"}), x=Node(BernoulliHead(parts), "k"))
        >>> found = expectation_maximization(model, {"x": x}, lambda r: maximize_bernoulli(mixing, parts, x, r))
        >>> found == sorted(found)
        True
    """
    loss = ElboLoss(Marginal(model))
    size = size_of(batch)
    chunks = list(rebatch(iter([batch]), chunk_size or size))
    found: list[float] = []
    with torch.no_grad():
        for step in range(steps + 1):
            found.append(-sum(size_of(part) / size * loss(**part).item() for part in chunks))
            if step == steps or len(found) > 1 and found[-1] - found[-2] < tolerance:
                return found
            maximize(torch.cat([responsibilities(model, part, site) for part in chunks]))
            if progress is not None:
                progress(1)
    return found


def responsibilities(model: Callable, batch: Batch, site: str) -> Tensor:
    """p(k | x) of the enumerated `site`, `(N, C)`."""
    if size_of(batch) == 1:  # Pyro takes a plate of one datum for none
        twice = {name: value.repeat(2, *(1,) * (value.dim() - 1)) for name, value in batch.items()}
        return responsibilities(model, twice, site)[:1]
    elbo = TraceEnum_ELBO(max_plate_nesting=MAX_PLATE_NESTING)
    with local_param_scope():
        found = elbo.compute_marginals(model, no_latents, **batch)
    if site not in found:
        raise ValueError(
            f"site {site!r} is not enumerated in the model; found {sorted(found)}. Mark it with "
            "infer={'enumerate': 'parallel'}."
        )
    marginal = found[site]
    if not isinstance(marginal, Categorical):
        raise ValueError(
            f"site {site!r} is {type(marginal).__name__}, expected a Categorical over the components."
        )
    return marginal.probs.expand(size_of(batch), -1)


@torch.no_grad()
def maximize_bernoulli(
    mixing: nn.Module, parts: nn.Embedding, x: Tensor, r: Tensor, *, prior_count: float = 0.0
) -> None:
    """The M step of a mixture of Bernoullis, `Mixing(C)` and rows of logits `(C, D)`.

    prior_count: pixels of each value that are added to each component, so that no probability is 0
    or 1; the likelihood may then fall slightly.
    """
    count = r.sum(0)
    _set_weights(mixing, count)
    eps = torch.finfo(x.dtype).eps
    means = (r.T @ x + prior_count) / (count + 2 * prior_count).unsqueeze(1).clamp(min=eps)
    parts.weight.copy_(means.clamp(eps, 1 - eps).logit())


@torch.no_grad()
def maximize_normal(
    mixing: nn.Module, parts: nn.Embedding, x: Tensor, r: Tensor, *, min_variance: float = 1e-6
) -> None:
    """The M step of a mixture of diagonal normals, `Mixing(C)` and rows of means and log-scales
    `(C, 2 D)`, as `NormalHead` reads them.

    min_variance: what variances are raised to, without which a component may shrink to one datum.
    """
    count = r.sum(0)
    _set_weights(mixing, count)
    share = r / count.clamp(min=torch.finfo(x.dtype).eps)
    mean = share.T @ x
    parts_of = [share[:, c] @ (x - mean[c]).square() for c in range(len(mean))]
    variance = torch.stack(parts_of).clamp(min=min_variance)
    parts.weight.copy_(torch.cat([mean, 0.5 * variance.log()], dim=1))


def _set_weights(mixing: nn.Module, count: Tensor) -> None:
    (logits,) = mixing.parameters()
    logits.copy_((count / count.sum()).clamp(min=torch.finfo(count.dtype).tiny).log())
