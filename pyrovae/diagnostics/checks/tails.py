"""Importance weights with a heavy tail: the guide misses mass."""

from collections.abc import Iterator

from pyrovae.core.errors import PairError
from pyrovae.diagnostics.checks.examination import Examination, NotApplicable
from pyrovae.diagnostics.diagnosis import Finding, Severity
from pyrovae.evidence.importance import log_evidence
from pyrovae.evidence.result import UNTRUSTED_KHAT

PARTICLES = 500
MOST_DATA = 100
MOST_UNTRUSTED = 0.5
"""Share of data whose weights may be heavy-tailed: those of a good encoder are for some."""
MOST_SHARED = 30
"""More dims of weights make the joint importance weights heavy-tailed for any guide but the
posterior itself."""


def of_single_data(seen: Examination) -> Iterator[Finding]:
    """k-hat of p(x, z) / q(z | x), z ~ q, for each datum."""
    seen.need_local()
    if seen.shared:
        raise NotApplicable(
            "weights are shared by all data, so no datum has an evidence of its own"
        )
    if seen.is_point:
        raise NotApplicable("the guide is a point mass")
    rows = {name: value[:MOST_DATA] for name, value in seen.batch.items()}
    if seen.tied:
        rows = seen.batch
    found = log_evidence(
        seen.model, seen.guide, rows, num_particles=PARTICLES, plate=seen.plate, compile="off"
    )
    share = found.untrusted.double().mean().item()
    if share > MOST_UNTRUSTED:
        yield Finding(
            "heavy-tailed importance weights",
            Severity.WARNING,
            f"k-hat is above {UNTRUSTED_KHAT} for {share:.0%} of {len(found.khat)} data (median {found.khat.median():.2f}, "
            f"median effective number of {PARTICLES} particles {found.ess.median():.0f}): q(z | x) is narrower than the "
            "posterior or in another place",
            "train the encoder longer or make it larger, a richer guide (full-rank, mixture or flow), IwaeLoss; for "
            "estimates of log p(x), log_evidence(defensive=0.1) or annealed importance sampling",
        )


def of_shared_draws(seen: Examination) -> Iterator[Finding]:
    """k-hat of the joint weights, for few shared latent dims."""
    seen.need_shared()
    if seen.local or seen.is_point:
        raise NotApplicable("latent variables of single data" if seen.local else "a point mass")
    dims = sum(site["fn"].event_shape.numel() for site in seen.shared.values())
    if dims > MOST_SHARED:
        raise NotApplicable(f"{dims} weights, of which no guide but the posterior has light tails")
    if seen.size < seen.num_data:
        raise NotApplicable("the weights of a part of the data are not those of the posterior")
    try:
        found = log_evidence(
            seen.model,
            seen.guide,
            seen.batch,
            num_particles=4 * PARTICLES,
            plate=None,
            compile="off",
        )
    except PairError as error:
        raise NotApplicable(str(error)) from error
    khat = found.khat.item()
    if khat > UNTRUSTED_KHAT:
        yield Finding(
            "heavy-tailed importance weights",
            Severity.WARNING,
            f"k-hat of {4 * PARTICLES} draws of the {dims} shared latent values is {khat:.2f}, above {UNTRUSTED_KHAT}; "
            f"{found.ess.item():.0f} are effective: the guide is narrower than the posterior or in another place",
            "a guide with correlations (JointNormal, AutoMultivariateNormal), longer training, or HMC",
        )
