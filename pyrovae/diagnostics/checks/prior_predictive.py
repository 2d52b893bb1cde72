"""Data that the prior cannot make."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import constraints

from pyrovae.core.traces import base_distribution, log_prob
from pyrovae.core.types import Site, nodes_of
from pyrovae.diagnostics.checks.examination import Examination, NotApplicable
from pyrovae.diagnostics.diagnosis import Finding, Severity

BEYOND = 2.0
"""How far outside the prior predictive range a statistic has to lie, in units of that range."""
TINY = 0.02
"""Ratio of the data's spread to the least that the prior makes."""
MOST_ATYPICAL = 0.5
"""Share of posterior draws that may lie where one prior draw in a hundred does."""


def replicates(seen: Examination) -> Iterator[Finding]:
    """Mean, spread and extremes of the data among those of data sets that the prior makes."""
    seen.need_unmasked()
    checked = False
    for name, site in seen.observed.items():
        drawn = nodes_of(seen.prior)[name]["value"].double()
        data = site["value"].double()
        if drawn.dim() != data.dim() + 1 or not site["fn"].has_rsample and not _counts(site):
            continue
        drawn = drawn.expand(seen.num_draws, *data.shape)
        drawn = drawn[drawn.flatten(1).isfinite().all(1)]
        if len(drawn) < 20:
            continue
        checked = True
        for label, statistic in STATISTICS.items():
            made = torch.stack([statistic(part) for part in drawn])
            seen_value = statistic(data).item()
            low, high = made.quantile(0.01).item(), made.quantile(0.99).item()
            width = max(high - low, 1e-12)
            outside = max(seen_value - high, low - seen_value)
            conflict = (
                seen_value > high + BEYOND * width or seen_value < TINY * low
                if label == "standard deviation"
                else outside > BEYOND * width
            )
            if conflict:
                yield Finding(
                    "prior predictive conflict",
                    Severity.ERROR,
                    f"the data at site {name!r} have {label} {seen_value:.3g}, but 98% of {len(drawn)} data sets that the "
                    f"prior makes have one between {low:.3g} and {high:.3g}",
                    "standardise the data, or give the prior of the weights (and a fixed likelihood scale) the scale of the "
                    "data: bnn.priors.fan_in, or a larger prior scale for the last bias",
                )
                return
    if not checked:
        raise NotApplicable("no observed site of real values or counts")


def aggregate_posterior(seen: Examination) -> Iterator[Finding]:
    """Draws of q(z | x) over the data among those of p(z): what the prior decodes to is made from
    other z than the data are where they differ."""
    seen.need_local()
    if seen.is_point:
        raise NotApplicable("the guide is a point mass")
    for name, site in seen.local.items():
        other = nodes_of(seen.prior).get(name)
        if other is None or not seen.particles.model_broadcasts:
            continue
        own = log_prob(site).double().expand(seen.num_draws, seen.size).flatten()
        prior = log_prob(other).double().expand(seen.num_draws, seen.size).flatten()
        if not own.isfinite().all():
            continue
        index = torch.randperm(len(prior))[:10_000].to(prior.device)
        low = prior[index].quantile(0.01)
        share = (own < low).double().mean().item()
        if share > MOST_ATYPICAL:
            yield Finding(
                "prior predictive conflict",
                Severity.WARNING,
                f"{share:.0%} of the draws of q({name} | x) have a density under the prior that 1% of the prior's own "
                "draws have: the prior makes its data from other latent values than the data have",
                "raise beta to 1, let the scale of the likelihood be learned (a small fixed one weighs reconstruction "
                "above everything), or learn the prior (VampPrior, a mixture, a flow)",
            )


def _counts(site: Site) -> bool:
    base = base_distribution(site["fn"])
    return base.support is constraints.nonnegative_integer


def _spread(values: Tensor) -> Tensor:
    return values.std(0).mean()


STATISTICS = {
    "mean": lambda values: values.mean(),
    "standard deviation": _spread,
    "minimum": lambda values: values.min(),
    "maximum": lambda values: values.max(),
}
