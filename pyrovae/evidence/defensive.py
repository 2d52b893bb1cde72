"""Defensive importance sampling: a fixed share of the particles comes from the prior, so that
weights are bounded."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pyrovae.core.handlers import ValidateSupport
from pyrovae.core.log_weights import check_matched
from pyrovae.core.traces import Batch, run_guide
from pyrovae.evidence.densities import (
    FromPrior,
    SiteRequirement,
    outside,
    score_guide,
    score_model,
    values_of,
    without_density,
)


class Mixture:
    """K draws, a K of them from the prior and the others from a guide, each weighed by (1 - a) q +
    a p(z)."""

    def __init__(
        self, model: Callable, share: float, num_particles: int, chunk: int, plate: str
    ) -> None:
        self.model, self.num_particles, self.chunk, self.plate = model, num_particles, chunk, plate
        self.num_prior = round(share * num_particles)
        if not (0 < share < 1 and 0 < self.num_prior < num_particles):
            raise ValueError(
                f"defensive={share} of num_particles={num_particles} are {self.num_prior} draws from the "
                "prior, expected a share from 0 to 1 that leaves draws to both prior and guide."
            )

    def log_weights(self, guide: Callable, batch: Batch, start: int, stop: int) -> Tensor:
        """Log-weights of the particles `start` to `stop`, `(stop - start, B)` float64."""
        num_prior = (stop * self.num_prior) // self.num_particles - (
            start * self.num_prior
        ) // self.num_particles
        from_prior = run_guide(FromPrior(self.model), batch, max(num_prior, 1))
        from_guide = run_guide(guide, batch, max(stop - start - num_prior, 1))
        check_matched(from_prior, from_guide)
        drawn = values_of(from_guide)
        values = {
            name: torch.cat([value[:num_prior], drawn[name][: stop - start - num_prior]])
            for name, value in values_of(from_prior).items()
        }
        share = self.num_prior / self.num_particles
        parts = []
        for first in range(0, stop - start, self.chunk):
            part = {name: value[first : first + self.chunk] for name, value in values.items()}
            with ValidateSupport():
                prior, likelihood = score_model(self.model, part, batch, self.plate)
            guided = score_guide(guide, part, batch, self.plate).double()
            mixture = torch.logaddexp(
                math.log1p(-share) + guided, math.log(share) + prior.double()
            )
            parts.append(prior.double() + likelihood.double() - mixture)
        return torch.cat(parts)


def check_scores(model: Callable, guide: Callable, batch: Batch, plate: str) -> None:
    """Raise PairError where prior or guide cannot score the other's draws."""
    demand = SiteRequirement(
        "defensive sampling scores the draws of prior and guide by both",
        outside(plate),
        without_density,
    )
    for program in (FromPrior(model), guide):
        demand.check(lambda program: run_guide(program, batch), program)
