"""The normaliser of a restricted Boltzmann machine by annealed importance sampling."""

import math
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from pyrovae.evidence.weight_summary import WeightSummary


class Bipartite(Protocol):
    """Two layers of bits, as in `priors.RestrictedBoltzmann`."""

    @property
    def weight(self) -> Tensor:
        """`(hidden, visible)`."""

    @property
    def visible_bias(self) -> Tensor:
        """`(visible,)`."""

    @property
    def hidden_bias(self) -> Tensor:
        """`(hidden,)`."""


@torch.no_grad()
def annealed_log_z(
    rbm: Bipartite,
    *,
    base: Tensor | None = None,
    num_chains: int = 100,
    num_steps: int = 5000,
    progress: Callable[[Iterable], Iterable] | None = None,
) -> tuple[float, float]:
    r"""Estimate log Z and its standard error, in nats.

    Chains pass through f_b(v) = e^{(1 - b) a'v} e^{-F_b(v)}, F_b(v) = -b (b_v'v) - \sum_j log(1 + e^{b
    (c_j + (W v)_j)}), from independent bits at b = 0, whose Z_0 is known, to the machine at b = 1,
    with one round of Gibbs sampling at each b between. The mean weight is unbiased for Z / Z_0, so
    the estimate of log Z is low in expectation and log p(x) by it high.

    base: logits a of the bits at b = 0, `(visible,)`; those of the pixel means of the training data
        take far fewer steps than the default 0. num_steps: T, evenly spaced inverse temperatures.
    progress: a wrapper of iterables such as tqdm, round the temperatures.

    The standard error is the jackknife's over chains; it says how far they differ, not how far all
    of them may be from a mode that they missed.
    Source: Salakhutdinov & Murray 2008, ICML, section 4.1 and eq. 15 to 18.

    Example:
        >>> from pyrovae.priors import RestrictedBoltzmann
        >>> rbm = RestrictedBoltzmann(4, 3)
        >>> log_z, se = annealed_log_z(rbm, num_chains=10, num_steps=50)
        >>> abs(log_z - rbm.exact_log_z()) < 0.1
        tensor(True)
    """
    if num_chains < 2 or num_steps < 1:
        raise ValueError(
            f"num_chains={num_chains} and num_steps={num_steps}, expected at least 2 chains and a step."
        )
    weight, bias = rbm.weight.detach().double(), rbm.visible_bias.detach().double()
    hidden_bias = rbm.hidden_bias.detach().double()
    logits = torch.zeros_like(bias) if base is None else base.to(bias)
    if logits.shape != bias.shape or not logits.isfinite().all():
        raise ValueError(
            f"base has shape {tuple(logits.shape)} and values from {logits.min():g} to {logits.max():g}, expected finite "
            f"logits of shape {tuple(bias.shape)}. Keep pixel means off 0 and 1 before .logit()."
        )

    def score(v: Tensor, beta: float) -> Tensor:
        inputs = functional.linear(v, weight, hidden_bias)
        return v @ ((1 - beta) * logits + beta * bias) + functional.softplus(beta * inputs).sum(-1)

    v = (torch.rand(num_chains, len(bias), device=bias.device) < logits.sigmoid()).to(bias)
    log_w = torch.zeros(num_chains, dtype=torch.double, device=bias.device)
    betas = torch.linspace(0, 1, num_steps + 1, dtype=torch.double).tolist()
    steps: Iterable[tuple[float, float]] = list(zip(betas[:-1], betas[1:]))
    for before, after in steps if progress is None else progress(steps):
        log_w += score(v, after) - score(v, before)
        h = (after * functional.linear(v, weight, hidden_bias)).sigmoid()
        h = (torch.rand_like(h) < h).to(v)
        v = ((1 - after) * logits + after * (functional.linear(h, weight.T, bias))).sigmoid()
        v = (torch.rand_like(v) < v).to(h)
    summary = WeightSummary(num_chains)
    summary.add(log_w.unsqueeze(1))
    log_z0 = functional.softplus(logits).sum().item() + len(hidden_bias) * math.log(2)
    return summary.log_mean.item() + log_z0, summary.se.item()
