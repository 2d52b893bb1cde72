"""What importance sampling needs to know of a pair, found on one batch before the estimate."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.poutine import Trace

from pyrovae.core.broadcasting import Particles
from pyrovae.core.check import ANY_NUMBER, check
from pyrovae.core.errors import PairError
from pyrovae.core.moving_support import AllowOutside, moving_supports
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import (
    Batch,
    base_distribution,
    for_batch,
    is_auxiliary,
    run_guide,
    sample_sites,
)
from pyrovae.evidence.defensive import check_scores
from pyrovae.programs.marginal import sum_out


@dataclass(frozen=True)
class CheckedPair:
    """A pair on which importance sampling is valid."""

    model: Callable
    """Where the support of a likelihood depends on latent values, data outside have density 0."""
    particles: Particles
    """Whether its programs broadcast over particles."""
    exact: bool = False
    """No latents are left to draw."""

    @classmethod
    def of(
        cls, model: Callable, guide: Callable, batch: Batch, *, plate: str | None, defensive: bool
    ) -> "CheckedPair":
        """`defensive`: both programs must score the draws of prior and guide. Latents that the
        model enumerates and the guide leaves out are summed out.

        Raises: PairError for all that `check` refuses, for point masses without an auxiliary draw,
        flat priors, and programs that defensive sampling cannot use.
        """
        name = DATA if plate is None else plate
        with AllowOutside():  # it is not known yet which supports depend on latent values
            check(model, guide, batch, num_data=ANY_NUMBER, plate=name)
        own = for_batch(guide, batch)
        model = sum_out(model, own, batch, name)
        if not sample_sites(run_guide(own, batch), observed=False):
            return cls(model, Particles(), exact=True)
        particles = Particles.of(model, own, batch)
        if defensive and not particles.at_once:
            raise PairError(
                "defensive sampling needs programs that broadcast over particles, and these do not: the log "
                "says where. Leave defensive at 0, or let them index and reshape from the right."
            )
        guide_trace = particles.run_guide(own, batch, 2)
        refuse_point_masses(guide_trace)
        model_trace = particles.run_model(model, guide_trace, batch, 2)
        _refuse_flat_priors(model_trace)
        if moving := moving_supports(model, own, batch, model_trace):
            model = AllowOutside(moving)(model)
        if defensive:
            check_scores(model, own, batch, name)
        return cls(model, particles)


def refuse_point_masses(guide_trace: Trace) -> None:
    """Raise PairError for a Delta in `guide_trace` (two particles); it is allowed where it
    passes on an auxiliary draw."""
    sites = sample_sites(guide_trace, observed=False)
    spread = any(is_auxiliary(site) and site["mask"] is not False for site in sites.values())
    for name, site in sites.items():
        if isinstance(base_distribution(site["fn"]), dist.Delta):
            if not spread or torch.equal(site["value"][0], site["value"][1]):
                raise PairError(
                    f"the guide's site {name!r} is a Delta, which has no density to weigh against: importance "
                    "sampling needs a guide that spreads, e.g. NormalHead."
                )


def _refuse_flat_priors(model_trace: Trace) -> None:
    for name, site in sample_sites(model_trace, observed=False).items():
        if isinstance(base_distribution(site["fn"]), dist.ImproperUniform):
            raise PairError(
                f"latent site {name!r} has a flat prior, whose density is known but for a constant, and so is "
                "log p(x). Use a proper prior, e.g. StandardNormal."
            )
