"""Posterior draws that all predict the same."""

from collections.abc import Iterator

from torch import Tensor

from pyrovae.core.types import nodes_of
from pyrovae.diagnostics.checks.examination import Examination, NotApplicable, on_draws
from pyrovae.diagnostics.diagnosis import Finding, Severity

LEAST_PARAMETERS = 0.5
"""Effective number of parameters; a single constant that is fitted to data has 1."""
LEAST_DECODED = 1e-3
"""Variance of decoded prior draws over the variance of the data."""


def draws_agree(seen: Examination) -> Iterator[Finding]:
    r"""Draws of the weights whose predictions differ by less than those of one constant would.

    sum_i Var_w log p(y_i | x_i, w) (Gelman, Hwang & Vehtari 2014, eq. 13) and, where predictions
    have a mean, sum_i Var_w E[y_i | w] / Var[y_i | w] estimate the effective number of parameters;
    the larger one counts."""
    seen.need_shared()
    factor = seen.num_data / seen.size
    effective = seen.log_likelihood.var(0).sum().item() * factor
    moments = predicted_moments(seen)
    if moments is not None:
        mean, variance = moments
        effective = max(effective, (mean.var(0) / variance.mean(0)).sum().item() * factor)
    if effective < LEAST_PARAMETERS:
        yield Finding(
            "draws agree",
            Severity.ERROR,
            f"the predictions of {seen.num_draws} posterior draws differ so little that the effective number of "
            f"parameters is {effective:.2g}; one constant fitted to the {seen.num_data} data would have 1",
            "the posterior is (nearly) a point: draw the weights from a guide with scales of its own (MeanField, "
            "JointNormal), train the scales, start members of an ensemble at different weights, keep dropout on "
            "when predicting, and see that the KL has its full weight 1/N",
        )


def prior_draws_decode_alike(seen: Examination) -> Iterator[Finding]:
    """A decoder that ignores z."""
    seen.need_local()
    if seen.shared or not seen.particles.model_broadcasts:
        raise NotApplicable("weights vary too")
    for name, site in seen.observed.items():
        fn = nodes_of(seen.prior)[name]["fn"]
        try:
            mean = fn.mean
        except (AttributeError, NotImplementedError):
            continue
        event_dim = len(fn.event_shape)
        mean = on_draws(mean.double(), fn, seen.num_draws, event_dim)
        data = site["value"].double()
        total = data.var(0).mean().item()
        between = mean.var(0).mean().item()  # over draws, so at fixed conditions of a datum
        if total > 0 and between / total < LEAST_DECODED:
            yield Finding(
                "draws agree",
                Severity.ERROR,
                f"what {seen.num_draws} draws of the prior decode to at site {name!r} has {between / total:.1e} of the "
                "variance of the data: the decoder ignores z",
                "see posterior collapse: warm the KL up, free bits, a weaker decoder; check that the decoder takes z",
            )


def predicted_moments(seen: Examination) -> tuple[Tensor, Tensor] | None:
    """E[y | w] and Var[y | w] of the one real or counted site, `(K, B, T)`; None for others."""
    if not seen.particles.model_broadcasts or len(seen.observed) != 1:
        return None
    fn = next(iter(seen.observed.values()))["fn"]
    try:
        mean, variance = fn.mean.double(), fn.variance.double()
    except (AttributeError, NotImplementedError):
        return None
    if not (variance > 0).all() or not variance.isfinite().all():
        return None
    event_dim = len(fn.event_shape)
    mean, variance = (on_draws(part, fn, seen.num_draws, event_dim) for part in (mean, variance))
    variance = variance.expand_as(mean)
    return mean.flatten(2) if event_dim else mean[..., None], (
        variance.flatten(2) if event_dim else variance[..., None]
    )
