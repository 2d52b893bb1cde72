"""Predictive intervals and probabilities against the data."""

from collections.abc import Iterator

import torch
from pyro.distributions import Bernoulli, Categorical, OneHotCategorical
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution

from pyrovae.core.traces import base_distribution
from pyrovae.core.types import nodes_of
from pyrovae.diagnostics.checks.examination import Examination, NotApplicable, on_draws
from pyrovae.diagnostics.diagnosis import Finding, Severity

INNER, OUTER = 0.5, 0.9
"""Central intervals of these probabilities are compared with the share of data inside."""
MARGIN = 0.1
"""Least difference of a share from its probability that matters."""
IN_SAMPLE = 0.42
"""The same for intervals that hold too many of the data the pair was fitted to, as they should:
those data drew the predictions towards them."""
ERRORS = 3.0
"""Standard errors."""


def calibration(seen: Examination) -> Iterator[Finding]:
    """Coverage of central intervals; for classes, confidence against accuracy."""
    seen.need_unmasked()
    fresh = seen.held_out is not None and not seen.local
    if fresh:
        assert seen.held_out is not None
        trace, data = seen.predicted(seen.held_out), seen.held_out
    else:
        trace, data = seen.scored, {n: s["value"] for n, s in seen.observed.items()}
    checked = False
    for name in seen.observed:
        site = nodes_of(trace)[name]
        base = base_distribution(site["fn"])
        if isinstance(base, (Bernoulli, Categorical, OneHotCategorical)):
            if not seen.particles.model_broadcasts:
                continue
            checked = True
            yield from _classes(seen, name, site["fn"], base, data[name], fresh)
        else:
            ranks = _ranks(seen, trace, name, data[name])
            if ranks is not None:
                checked = True
                yield from _coverage(name, ranks, fresh)
    if not checked:
        raise NotApplicable("no observed site with replicates to compare")


def _coverage(name: str, ranks: Tensor, fresh: bool) -> Iterator[Finding]:
    """`ranks` are P(y' <= y), `(B, T)`, uniform where calibrated."""
    count = len(ranks)
    distance = 2 * (ranks - 0.5).abs()
    for probability in (INNER, OUTER):
        each = (distance < probability).double().mean(1)  # targets of a datum are not independent
        share = each.mean().item()
        error = _error(each)
        excess = share - probability
        wide = excess > 0
        margin = MARGIN if fresh or not wide else IN_SAMPLE
        if abs(excess) > max(margin, ERRORS * error) or (
            probability == OUTER and wide and fresh and share == 1.0 and count >= 200
        ):
            yield Finding(
                "miscalibrated",
                Severity.WARNING if wide else Severity.ERROR,
                f"central intervals of {probability:.0%} hold {share:.0%} of {count} {'held-out' if fresh else 'training'} "
                f"data at site {name!r}: predictions are {'too wide' if wide else 'too narrow'}",
                "let the scale of the likelihood be learned"
                + (" and weigh the KL by 1/N" if wide else ", or heavier tails (StudentTHead)")
                + (
                    ""
                    if wide or not fresh
                    else "; stop earlier, or give the weights a posterior with more spread"
                )
                + "; standardise the targets, so that a fixed scale means what it says",
            )
            return
    bias = ranks.mean(1)
    shift = bias.mean().item() - 0.5
    if abs(shift) > max(MARGIN, ERRORS * _error(bias)):
        yield Finding(
            "miscalibrated",
            Severity.ERROR,
            f"{'data' if fresh else 'training data'} at site {name!r} lie at quantile {0.5 + shift:.2f} of their "
            "predictions on average, 0.5 where calibrated: predictions are biased",
            "train longer, give the output a bias, or standardise the targets",
        )


def _error(each: Tensor) -> float:
    """The standard error of a mean of shares `(B,)`, with a floor for few data."""
    count = len(each)
    return max(each.std().item() if count > 1 else 1.0, (0.25 / count) ** 0.5) / count**0.5


def _ranks(seen: Examination, trace: Trace, name: str, data: Tensor) -> Tensor | None:
    """P(y' <= y) under the predictive distribution, `(B, T)`, at random within ties."""
    fn = nodes_of(trace)[name]["fn"]
    event_dim = len(fn.event_shape)
    base = base_distribution(fn)
    flat = data.double().flatten(1) if data.dim() > 1 else data.double()[:, None]
    if seen.particles.model_broadcasts and _continuous(base):
        try:
            cdf = base.cdf(data).double()
            cdf = on_draws(cdf, fn, seen.num_draws, event_dim).mean(0)
            return cdf.flatten(1) if event_dim else cdf[:, None]
        except (NotImplementedError, AttributeError, RuntimeError, ValueError):
            pass
    replicates = nodes_of(seen.replicated if trace is seen.scored else trace)[name][
        "value"
    ].double()
    if replicates.dim() < data.dim() + 1:
        return None
    replicates = replicates.expand(seen.num_draws, *data.shape)
    replicates = replicates.flatten(2) if data.dim() > 1 else replicates[..., None]
    below = (replicates < flat).double().sum(0)
    equal = (replicates == flat).double().sum(0)
    return (below + torch.rand_like(below) * (equal + 1)) / (seen.num_draws + 1)


def _continuous(base: Distribution) -> bool:
    return base.support is not None and not base.support.is_discrete and not base.event_shape


def _classes(
    seen: Examination, name: str, fn: Distribution, base: Distribution, y: Tensor, fresh: bool
) -> Iterator[Finding]:
    event_dim = len(fn.event_shape)
    assert isinstance(base, (Bernoulli, Categorical, OneHotCategorical))
    if isinstance(base, Bernoulli):
        probs = on_draws(base.probs.double(), fn, seen.num_draws, event_dim).mean(0)
        probs = probs.expand(y.shape)
        confidence = torch.maximum(probs, 1 - probs)
        right = ((probs > 0.5) == (y > 0.5)).double()
    else:
        extra = 0 if isinstance(base, OneHotCategorical) else 1
        probs = on_draws(base.probs.double(), fn, seen.num_draws, event_dim + extra).mean(0)
        confidence, best = probs.max(-1)
        right = (best == (y.argmax(-1) if isinstance(base, OneHotCategorical) else y)).double()
    gaps = (confidence - right).reshape(len(y), -1).mean(1)
    gap = gaps.mean().item()
    error = ERRORS * _error(gaps)
    margin = MARGIN / 2 if fresh or gap > 0 else IN_SAMPLE
    if abs(gap) > max(margin, error):
        yield Finding(
            "miscalibrated",
            Severity.ERROR if gap > 0 else Severity.WARNING,
            f"the predicted class at site {name!r} has probability {confidence.mean():.3f} on average and is right for "
            f"{right.mean():.3f} of {len(y)} {'held-out' if fresh else 'training'} data: predictions are "
            f"{'overconfident' if gap > 0 else 'underconfident'}",
            "average over more spread-out weights (the KL at its full weight 1/N, an ensemble), train less, or scale the "
            "logits on held-out data"
            if gap > 0
            else "weigh the KL by 1/N, widen the net or train longer",
        )
