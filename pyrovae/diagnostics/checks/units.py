"""Latent variables that say nothing: a posterior equal to the prior, unit by unit."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyrovae.core.errors import PairError
from pyrovae.core.log_weights import log_joint
from pyrovae.core.traces import plate_frame, run_guide, sample_sites
from pyrovae.core.types import Site, nodes_of
from pyrovae.diagnostics.active_units import ActiveUnits, factors
from pyrovae.diagnostics.checks.examination import Examination, NotApplicable
from pyrovae.diagnostics.diagnosis import Finding, Severity
from pyrovae.losses.elbo_terms import DRAWS, posterior_means

LEAST_KL = 0.01
"""Nats; a unit below it says practically nothing."""
LEAST_WEIGHT_KL = 0.03
"""The same for a weight; a fit by noisy gradients does not come nearer."""
LEAST_TOTAL = 0.1
"""Nats per datum of all latent sites together."""
MOST_AT_PRIOR = 0.9
"""Share of weights at their prior that a healthy net may have: unused ones are."""


def collapse(seen: Examination) -> Iterator[Finding]:
    """Posterior collapse of a VAE, and single units or layers that equal their prior."""
    seen.need_local()
    if seen.is_point:
        raise NotApplicable("the guide is a point mass")
    total = _total_kl(seen)
    active, count = active_units(seen)
    if total < LEAST_TOTAL or active == 0:
        yield Finding(
            "posterior collapse",
            Severity.ERROR,
            f"KL(q(z | x) || p(z)) is {total:.2g} nats per datum over all latent sites, and "
            f"{active} of {count} units have a posterior mean that varies over the data",
            "warm the KL up (beta=LinearWarmup(steps)), allow free bits (free_bits=0.5), train the guide more often "
            "than the model (losses.Lagging), or weaken the decoder; a likelihood scale that is too large does the "
            "same, so let it be learned",
        )
        return
    for name, site in seen.local.items():
        kl = kl_per_unit(seen, name, site)
        dead = (kl < LEAST_KL).nonzero().flatten().tolist() if kl is not None else []
        if kl is None or not dead:
            continue
        most = len(dead) >= len(kl) / 2
        yield Finding(
            "posterior equals prior",
            Severity.WARNING if most else Severity.NOTE,
            f"{len(dead)} of {len(kl)} units of site {name!r} have a KL to the prior below {LEAST_KL} nats "
            f"(units {_few(dead)}); the others have {kl[kl >= LEAST_KL].mean():.2f} on average",
            "the data may need no more units: a smaller latent space gives the same ELBO. If they should be used, "
            "warm the KL up, lower beta to 1 or give each site free bits",
        )


def weights_at_prior(seen: Examination) -> Iterator[Finding]:
    """A posterior of weights that the data did not move."""
    seen.need_shared()
    found = {n: kl for n, s in seen.shared.items() if (kl := kl_per_unit(seen, n, s)) is not None}
    if not found:
        raise NotApplicable("no site of the weights whose prior has moments")
    share = {name: (kl < LEAST_WEIGHT_KL).double().mean().item() for name, kl in found.items()}
    everywhere = torch.cat(list(found.values()))
    overall = (everywhere < LEAST_WEIGHT_KL).double().mean().item()
    if overall > MOST_AT_PRIOR:
        at_prior = [name for name, part in share.items() if part > MOST_AT_PRIOR]
        yield Finding(
            "posterior equals prior",
            Severity.ERROR,
            f"{overall:.0%} of {len(everywhere)} weights have a KL to the prior below {LEAST_WEIGHT_KL} nats (sites "
            f"{_few(at_prior)}); all weights together carry {everywhere.sum():.2f} nats",
            "weigh the KL by 1/N (num_data=N), check that the scale of the likelihood is not far above the noise of "
            "the data, start from small scales (init_scale=0.01), or take fewer hidden units",
        )


def kl_per_unit(seen: Examination, name: str, site: Site) -> Tensor | None:
    """KL(q || p) of each element, averaged over data and draws, `(D,)`: in closed form where there
    is one; for shared sites else from the moments of the draws; None where there is neither."""
    q = nodes_of(seen.posterior).get(name)
    event_dim = len(site["fn"].event_shape)
    if q is not None:
        try:
            kl = kl_divergence(factors(q), factors(site)).double()
            lead = kl.dim() - event_dim
            return (kl.mean(tuple(range(lead))) if lead else kl).flatten()
        except (PairError, NotImplementedError):
            pass
    if name in seen.local:
        return None
    try:
        mean, sd = site["fn"].mean.double(), site["fn"].stddev.double()
    except (AttributeError, NotImplementedError):
        return None
    draws = site["value"].double()
    if not (sd > 0).all() or not sd.isfinite().all():
        return None
    own_mean, own_sd = draws.mean(0), draws.std(0).clamp_min(1e-12)
    mean, sd = (part.expand_as(draws).mean(0) for part in (mean, sd))
    kl = (sd / own_sd).log() + (own_sd**2 + (own_mean - mean) ** 2) / (2 * sd**2) - 0.5
    return (kl - 2.0 / len(draws)).flatten()  # K draws of the prior itself have about 1/K


def _total_kl(seen: Examination) -> float:
    """E_q log q - log p of the sites in the plate, nats per datum."""
    q, p = seen.posterior.copy(), seen.scored.copy()
    for trace in (q, p):
        for name, site in sample_sites(trace, observed=False).items():
            if plate_frame(site, seen.plate) is None:
                del nodes_of(trace)[name]
    terms = (
        log_joint(trace, seen.num_draws, plate=seen.plate, observed=False).double().mean().item()
        for trace in (q, p)
    )
    return next(terms) - next(terms)


def active_units(seen: Examination) -> tuple[int, int]:
    """Units whose posterior mean varies over the data, and units in all."""
    trace = run_guide(seen.guide, seen.batch)
    active = total = 0
    for name in seen.local:
        site = nodes_of(trace).get(name)
        means = None if site is None else posterior_means(site)
        if means is None:  # the draws of an autoguide: halves of them
            draws = seen.local[name]["value"].double()
            half = max(1, min(len(draws), 2 * DRAWS) // 2)
            means = draws[:half].mean(0), draws[half:].mean(0)
        units = ActiveUnits()
        units.add(*means)
        active, total = active + units.count(), total + means[0][0].numel()
    return active, total


def _few(items: list) -> str:
    return ", ".join(map(str, items[:6])) + (", ..." if len(items) > 6 else "")
